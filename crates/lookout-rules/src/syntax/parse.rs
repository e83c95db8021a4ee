//! Tokens to a syntax tree, by precedence climbing.

use super::lex::{Token, tokens};
use super::{
    ArithmeticOp, CompareOp, Fault, MAX_CONDITION_BYTES, MAX_DEPTH, MAX_LIST_ITEMS, MAX_NODES,
    Node, NodeKind, Span,
};

/// Words that CEL keeps for itself.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Parses a condition. Refuses what is over a limit before it costs anything.
pub(crate) fn parse(source: &str) -> Result<Node, Fault> {
    if source.len() > MAX_CONDITION_BYTES {
        return Err(Fault::new(
            Span { start: 0, end: 0 },
            format!(
                "the text has {} bytes, the limit is {MAX_CONDITION_BYTES}; put long lists of \
                 addresses into a label",
                source.len()
            ),
        ));
    }
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0, nodes: 0 };
    if matches!(parser.peek(), Token::End) {
        return Err(Fault::new(
            parser.span(),
            "the condition is empty; write one, or leave it out",
        ));
    }
    let node = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    nodes: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).map_or_else(Span::default, |(_, span)| *span)
    }

    fn advance(&mut self) -> Span {
        let span = self.span();
        self.at += 1;
        span
    }

    fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(found) if *found == mark)
    }

    fn eat(&mut self, mark: &str) -> bool {
        let found = self.is(mark);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, mark: &'static str) -> Result<Span, Fault> {
        if self.is(mark) { Ok(self.advance()) } else { Err(self.unexpected(&format!("`{mark}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let found = match self.peek() {
            Token::End => {
                return Fault::new(self.span(), format!("the text ends where {wanted} should be"));
            }
            Token::Mark(mark) => format!("`{mark}`"),
            Token::Name(name) if name == "and" || name == "AND" => {
                return Fault::new(self.span(), "`and` is not an operator; write `&&`");
            }
            Token::Name(name) if name == "or" || name == "OR" => {
                return Fault::new(self.span(), "`or` is not an operator; write `||`");
            }
            Token::Name(name) => format!("`{name}`"),
            Token::Number(_) => "a number".to_owned(),
            Token::Text(_) | Token::Bytes(_) => "a string".to_owned(),
        };
        Fault::new(self.span(), format!("{found} stands where {wanted} should be"))
    }

    fn node(&mut self, span: Span, kind: NodeKind) -> Result<Node, Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Fault::new(
                span,
                format!("the condition has more than {MAX_NODES} parts; split the rule"),
            ));
        }
        Ok(Node { span, kind })
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(self.span()));
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn expression(&mut self) -> Result<Node, Fault> {
        self.deeper(|parser| {
            let condition = parser.any()?;
            if !parser.eat("?") {
                return Ok(condition);
            }
            let yes = parser.any()?;
            parser.expect(":")?;
            let no = parser.expression()?;
            let span = condition.span.to(no.span);
            let (condition, yes, no) = (Box::new(condition), Box::new(yes), Box::new(no));
            parser.node(span, NodeKind::Choice { condition, yes, no })
        })
    }

    fn any(&mut self) -> Result<Node, Fault> {
        let first = self.all()?;
        self.chain("||", first, Self::all, NodeKind::Any)
    }

    fn all(&mut self) -> Result<Node, Fault> {
        let first = self.relation()?;
        self.chain("&&", first, Self::relation, NodeKind::All)
    }

    /// A flat list, so that a long chain is not deep.
    fn chain(
        &mut self,
        mark: &str,
        first: Node,
        next: fn(&mut Self) -> Result<Node, Fault>,
        kind: fn(Vec<Node>) -> NodeKind,
    ) -> Result<Node, Fault> {
        if !self.is(mark) {
            return Ok(first);
        }
        let mut span = first.span;
        let mut nodes = vec![first];
        while self.eat(mark) {
            let node = next(self)?;
            span = span.to(node.span);
            nodes.push(node);
        }
        self.node(span, kind(nodes))
    }

    fn relation(&mut self) -> Result<Node, Fault> {
        let mut left = self.sum()?;
        let mut links = 0;
        loop {
            let op = match self.peek() {
                Token::Mark("==") => CompareOp::Equal,
                Token::Mark("!=") => CompareOp::NotEqual,
                Token::Mark("<") => CompareOp::Less,
                Token::Mark("<=") => CompareOp::LessOrEqual,
                Token::Mark(">") => CompareOp::Greater,
                Token::Mark(">=") => CompareOp::GreaterOrEqual,
                Token::Name(name) if name == "in" => {
                    self.at += 1;
                    let list = self.sum()?;
                    let span = left.span.to(list.span);
                    let kind = NodeKind::In { item: Box::new(left), list: Box::new(list) };
                    left = self.node(span, kind)?;
                    links = self.link(links)?;
                    continue;
                }
                _ => return Ok(left),
            };
            self.at += 1;
            let right = self.sum()?;
            let span = left.span.to(right.span);
            let kind = NodeKind::Compare { op, left: Box::new(left), right: Box::new(right) };
            left = self.node(span, kind)?;
            links = self.link(links)?;
        }
    }

    /// Counts links of a chain that nests to the left.
    fn link(&self, links: usize) -> Result<usize, Fault> {
        if links + self.depth >= MAX_DEPTH { Err(too_deep(self.span())) } else { Ok(links + 1) }
    }

    fn sum(&mut self) -> Result<Node, Fault> {
        self.arithmetic(Self::product, |token| match token {
            Token::Mark("+") => Some(ArithmeticOp::Add),
            Token::Mark("-") => Some(ArithmeticOp::Subtract),
            _ => None,
        })
    }

    fn product(&mut self) -> Result<Node, Fault> {
        self.arithmetic(Self::unary, |token| match token {
            Token::Mark("*") => Some(ArithmeticOp::Multiply),
            Token::Mark("/") => Some(ArithmeticOp::Divide),
            Token::Mark("%") => Some(ArithmeticOp::Remainder),
            _ => None,
        })
    }

    fn arithmetic(
        &mut self,
        operand: fn(&mut Self) -> Result<Node, Fault>,
        operator: fn(&Token) -> Option<ArithmeticOp>,
    ) -> Result<Node, Fault> {
        let mut left = operand(self)?;
        let mut links = 0;
        while let Some(op) = operator(self.peek()) {
            self.at += 1;
            let right = operand(self)?;
            let span = left.span.to(right.span);
            let kind = NodeKind::Arithmetic { op, left: Box::new(left), right: Box::new(right) };
            left = self.node(span, kind)?;
            links = self.link(links)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, Fault> {
        let kind: fn(Box<Node>) -> NodeKind = match self.peek() {
            Token::Mark("!") => NodeKind::Not,
            Token::Mark("-") => NodeKind::Negate,
            _ => return self.member(),
        };
        let start = self.advance();
        let operand = self.deeper(Self::unary)?;
        let span = start.to(operand.span);
        self.node(span, kind(Box::new(operand)))
    }

    fn member(&mut self) -> Result<Node, Fault> {
        let mut node = self.primary()?;
        let mut links = 0;
        loop {
            if self.eat(".") {
                let member_span = self.span();
                let Token::Name(member) = self.peek().clone() else {
                    return Err(self.unexpected("a name"));
                };
                self.at += 1;
                if self.eat("(") {
                    let (arguments, end) = self.items(")")?;
                    let span = node.span.to(end);
                    let target = Some(Box::new(node));
                    let kind =
                        NodeKind::Call { target, name: member, name_span: member_span, arguments };
                    node = self.node(span, kind)?;
                } else {
                    let span = node.span.to(member_span);
                    let kind = NodeKind::Select { of: Box::new(node), member, member_span };
                    node = self.node(span, kind)?;
                }
            } else if self.eat("[") {
                let index = self.expression()?;
                let end = self.expect("]")?;
                let span = node.span.to(end);
                let kind = NodeKind::Index { of: Box::new(node), index: Box::new(index) };
                node = self.node(span, kind)?;
            } else {
                return Ok(node);
            }
            links = self.link(links)?;
        }
    }

    /// Expressions between commas up to `close`.
    fn items(&mut self, close: &'static str) -> Result<(Vec<Node>, Span), Fault> {
        let mut items = Vec::new();
        loop {
            if self.is(close) {
                return Ok((items, self.advance()));
            }
            // The items of a list are constants; they have a limit of their own.
            let nodes = self.nodes;
            items.push(self.expression()?);
            if close == "]" && self.nodes == nodes + 1 {
                self.nodes = nodes;
            }
            if items.len() > MAX_LIST_ITEMS {
                return Err(Fault::new(
                    self.span(),
                    format!("the list has more than {MAX_LIST_ITEMS} items; split the rule"),
                ));
            }
            if !self.eat(",") {
                return Ok((items, self.expect(close)?));
            }
        }
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let token = self.peek().clone();
        let span = self.span();
        let kind = match token {
            Token::Number(value) => NodeKind::Number(value),
            Token::Text(text) => NodeKind::Text(text),
            Token::Bytes(bytes) => NodeKind::Bytes(bytes),
            Token::Name(name) => return self.name(name),
            Token::Mark("(") => {
                self.at += 1;
                let mut inner = self.expression()?;
                inner.span = span.to(self.expect(")")?);
                return Ok(inner);
            }
            Token::Mark("[") => {
                self.at += 1;
                let (items, end) = self.items("]")?;
                return self.node(span.to(end), NodeKind::List(items));
            }
            Token::Mark("{") => {
                return Err(Fault::new(
                    span,
                    "maps are not part of conditions; list values in [ ]",
                ));
            }
            _ => return Err(self.unexpected("a value")),
        };
        self.at += 1;
        self.node(span, kind)
    }

    fn name(&mut self, name: String) -> Result<Node, Fault> {
        let span = self.advance();
        let kind = match name.as_str() {
            "true" => NodeKind::Bool(true),
            "false" => NodeKind::Bool(false),
            "null" => NodeKind::Null,
            "in" => {
                self.at -= 1;
                return Err(self.unexpected("a value"));
            }
            reserved if RESERVED.contains(&reserved) => {
                return Err(Fault::new(
                    span,
                    format!(
                        "`{name}` is a reserved word; reach an argument of that name as `args.{name}`"
                    ),
                ));
            }
            _ if self.eat("(") => {
                let (arguments, end) = self.items(")")?;
                let kind = NodeKind::Call { target: None, name, name_span: span, arguments };
                return self.node(span.to(end), kind);
            }
            _ => NodeKind::Name(name),
        };
        self.node(span, kind)
    }
}

fn too_deep(span: Span) -> Fault {
    Fault::new(span, format!("this is nested deeper than {MAX_DEPTH}; split the condition"))
}
