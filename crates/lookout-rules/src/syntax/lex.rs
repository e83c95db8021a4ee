//! Tokens of a condition.

use ruint::aliases::U256;

use super::{Fault, Span};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(U256),
    Text(String),
    Bytes(Vec<u8>),
    Name(String),
    /// An operator or a bracket.
    Mark(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<`.
const MARKS: [&str; 23] = [
    "==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "+", "-",
    "*", "/", "%", "<", ">",
];

pub(super) fn tokens(source: &str) -> Result<Vec<(Token, Span)>, Fault> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        tokens.push((token, Span { start, end: lexer.at }));
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn span_from(&self, start: usize) -> Span {
        Span { start, end: self.at }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\x0b' | '\x0c'));
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        let Some(first) = self.peek() else { return Ok(Token::End) };
        if first.is_ascii_digit() {
            return self.number();
        }
        if matches!(first, '"' | '\'') {
            return self.quoted(false).map(|text| Token::Text(text.0));
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            if matches!(self.peek(), Some('"' | '\'')) {
                return match word {
                    "r" | "R" => self.quoted(true).map(|text| Token::Text(text.0)),
                    "b" | "B" => self.quoted(false).map(|text| Token::Bytes(text.1)),
                    "rb" | "Rb" | "rB" | "RB" | "br" | "bR" | "Br" | "BR" => {
                        self.quoted(true).map(|text| Token::Bytes(text.1))
                    }
                    _ => Err(Fault::new(
                        self.span_from(start),
                        format!("`{word}` directly before a string; put an operator between them"),
                    )),
                };
            }
            return Ok(Token::Name(word.to_owned()));
        }
        if let Some(mark) = MARKS.iter().find(|mark| self.rest().starts_with(**mark)) {
            self.at += mark.len();
            return Ok(Token::Mark(mark));
        }
        self.next();
        if first == '!' {
            return Ok(Token::Mark("!"));
        }
        let remedy = match first {
            '=' => "`=` is not an operator; compare with `==`".to_owned(),
            '&' | '|' => format!("`{first}` is not an operator; write `{first}{first}`"),
            '“' | '”' | '‘' | '’' | '`' => {
                format!("`{first}` is not a quotation mark here; use \" or '")
            }
            _ => format!("`{}` has no meaning here; remove it", first.escape_debug()),
        };
        Err(Fault::new(self.span_from(start), remedy))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        let hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        let (digits, radix) = if hex {
            self.at += 2;
            (self.take_while(|c| c.is_ascii_hexdigit()), 16)
        } else {
            (self.take_while(|c| c.is_ascii_digit()), 10)
        };
        if matches!(self.peek(), Some('u' | 'U')) {
            self.next();
        }
        let tail = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
        let span = self.span_from(start);
        if !hex && (tail.starts_with('.') || tail.starts_with(['e', 'E'])) {
            return Err(Fault::new(
                span,
                "amounts are whole numbers of the smallest unit; write units(\"1.5\", 6) or \
                 ether(\"1.5\")",
            ));
        }
        if digits.is_empty() || !tail.is_empty() {
            return Err(Fault::new(
                span,
                "this is not a number; write digits only, or 0x and hex digits",
            ));
        }
        // `from_str_radix` reads any number of digits; 78 decimal ones already overflow.
        let significant = digits.trim_start_matches('0');
        let value = (significant.len() <= 78)
            .then(|| U256::from_str_radix(digits, radix).ok())
            .flatten()
            .ok_or_else(|| {
                Fault::new(span, "this constant is above 2^256 - 1, the greatest uint256")
            })?;
        Ok(Token::Number(value))
    }

    /// A quoted string, as text and as bytes.
    fn quoted(&mut self, raw: bool) -> Result<(String, Vec<u8>), Fault> {
        let start = self.at;
        let quote = self.next().unwrap_or_default();
        let (mut text, mut bytes) = (String::new(), Vec::new());
        loop {
            let at = self.at;
            let Some(character) = self.next().filter(|c| *c != '\n') else {
                let span = Span { start, end: at };
                return Err(Fault::new(
                    span,
                    format!("the string is not closed; end it with {quote}"),
                ));
            };
            if character == quote {
                return Ok((text, bytes));
            }
            let (character, byte) =
                if character == '\\' && !raw { self.escape(at)? } else { (character, None) };
            text.push(character);
            match byte {
                Some(byte) => bytes.push(byte),
                None => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
    }

    /// The character behind a backslash, and the byte where the escape names one.
    fn escape(&mut self, start: usize) -> Result<(char, Option<u8>), Fault> {
        let unknown = |lexer: &Self| {
            Fault::new(
                lexer.span_from(start),
                "this escape is not known; write \\\\ for a backslash",
            )
        };
        let kind = self.next().ok_or_else(|| unknown(self))?;
        let digits = match kind {
            'n' => return Ok(('\n', None)),
            't' => return Ok(('\t', None)),
            'r' => return Ok(('\r', None)),
            'a' => return Ok(('\x07', None)),
            'b' => return Ok(('\x08', None)),
            'f' => return Ok(('\x0c', None)),
            'v' => return Ok(('\x0b', None)),
            '\\' | '"' | '\'' | '`' | '?' => return Ok((kind, None)),
            'x' | 'X' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(unknown(self)),
        };
        let hex: String = self.rest().chars().take(digits).collect();
        let code = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == digits);
        self.at += hex.len();
        let character = code.and_then(char::from_u32).ok_or_else(|| unknown(self))?;
        let byte = if digits == 2 { code.and_then(|code| u8::try_from(code).ok()) } else { None };
        Ok((character, byte))
    }
}
