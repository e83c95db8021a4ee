//! Checks a condition against what it may name, and lowers it to the typed form.

mod constants;
mod functions;
mod membership;

use std::collections::BTreeMap;
use std::sync::Arc;

use lookout_abi::{AbiType, I256};

use crate::expr::{Const, ConstSet, Expr};
use crate::scope::{Entry, Field, Scope, suggestion};
use crate::syntax::{ArithmeticOp, CompareOp, Fault, MAX_DEPTH, Node, NodeKind, Span, parse};
use crate::types::Type;

/// A lowered expression with its type and place.
pub(crate) struct Typed {
    pub(crate) expr: Expr,
    pub(crate) ty: Type,
    pub(crate) span: Span,
}

/// Parses and lowers a condition: a bool.
pub(crate) fn condition(source: &str, scope: &Scope) -> Result<Expr, Fault> {
    let typed = lower(source, scope)?;
    if typed.ty == Type::Bool {
        return Ok(typed.expr);
    }
    let remedy = match typed.ty {
        Type::Uint | Type::Int => "; compare it, as in `… > 0`",
        _ => "; compare it, as in `… == …`",
    };
    Err(Fault::new(
        typed.span,
        format!("a condition is true or false, this is {}{remedy}", typed.ty),
    ))
}

/// Parses and lowers an unsigned number.
pub(crate) fn unsigned(source: &str, scope: &Scope) -> Result<Expr, Fault> {
    let typed = lower(source, scope)?;
    match typed.ty {
        Type::Uint => Ok(typed.expr),
        Type::Int => Err(Fault::new(
            typed.span,
            "a sum needs an unsigned number, this is an int256; convert it with uint(…)",
        )),
        other => {
            Err(Fault::new(typed.span, format!("a sum needs an unsigned number, this is {other}")))
        }
    }
}

/// Parses and lowers a text that must be a name.
pub(crate) fn name(source: &str, scope: &Scope) -> Result<(Field, Type), Fault> {
    let typed = lower(source, scope)?;
    match typed.expr {
        Expr::Field(field) => Ok((field, typed.ty)),
        _ => {
            Err(Fault::new(typed.span, "a placeholder holds the name of a value, nothing computed"))
        }
    }
}

fn lower(source: &str, scope: &Scope) -> Result<Typed, Fault> {
    let tree = parse(source)?;
    let labels = BTreeMap::new();
    Checker { source, scope, depth: 0, patterns: 0, labels, labelled: 0 }.lower(&tree)
}

struct Checker<'a> {
    source: &'a str,
    scope: &'a Scope,
    depth: usize,
    /// Text patterns so far.
    patterns: usize,
    /// The labels used so far, each kept once however often it is named, and their addresses.
    labels: BTreeMap<String, Arc<ConstSet>>,
    labelled: usize,
}

impl Checker<'_> {
    fn lower(&mut self, node: &Node) -> Result<Typed, Fault> {
        self.depth += 1;
        // Chains nest inside brackets, so the tree can be deeper than the brackets are.
        if self.depth > 2 * MAX_DEPTH {
            return Err(Fault::new(node.span, "this is nested too deeply; split the condition"));
        }
        let typed = self.lower_kind(node);
        self.depth -= 1;
        typed
    }

    fn lower_kind(&mut self, node: &Node) -> Result<Typed, Fault> {
        let span = node.span;
        let typed = |expr, ty| Ok(Typed { expr, ty, span });
        match &node.kind {
            NodeKind::Bool(value) => typed(Expr::Const(Const::Bool(*value)), Type::Bool),
            NodeKind::Number(value) => typed(Expr::Const(Const::Uint(*value)), Type::Uint),
            NodeKind::Text(text) => {
                typed(Expr::Const(Const::Text(text.as_str().into())), Type::Text)
            }
            NodeKind::Bytes(bytes) => {
                typed(Expr::Const(Const::Bytes(bytes.as_slice().into())), Type::Bytes(None))
            }
            NodeKind::Null => typed(Expr::Const(Const::Null), Type::Null),
            NodeKind::Name(_) | NodeKind::Select { .. } => self.path(node),
            NodeKind::Index { of, index } => self.index(span, of, index),
            NodeKind::Call { target, name, name_span, arguments } => {
                self.call(span, target.as_deref(), name, *name_span, arguments)
            }
            NodeKind::List(_) => Err(Fault::new(span, "a list stands only on the right of `in`")),
            NodeKind::Not(of) => {
                let of = self.boolean(of, "!")?;
                typed(Expr::Not(Box::new(of)), Type::Bool)
            }
            NodeKind::Negate(of) => self.negate(span, of),
            NodeKind::Compare { op, left, right } => self.compare(span, *op, left, right),
            NodeKind::In { item, list } => self.is_in(span, item, list),
            NodeKind::Arithmetic { op, left, right } => self.arithmetic(span, *op, left, right),
            NodeKind::All(parts) => {
                let parts = parts.iter().map(|part| self.boolean(part, "&&"));
                let mut flat = Vec::new();
                for part in parts.collect::<Result<Vec<_>, _>>()? {
                    match part {
                        Expr::All(inner) => flat.extend(inner),
                        other => flat.push(other),
                    }
                }
                typed(Expr::All(flat), Type::Bool)
            }
            NodeKind::Any(parts) => {
                let parts = parts.iter().map(|part| self.boolean(part, "||"));
                typed(membership::any(parts.collect::<Result<_, _>>()?), Type::Bool)
            }
            NodeKind::Choice { condition, yes, no } => {
                let condition = Box::new(self.boolean(condition, "? :")?);
                let (yes, no) = (self.lower(yes)?, self.lower(no)?);
                let (yes, no) = self.same_type(yes, no)?;
                let ty = yes.ty;
                let (yes, no) = (Box::new(yes.expr), Box::new(no.expr));
                typed(Expr::Choice { condition, yes, no }, ty)
            }
        }
    }

    fn boolean(&mut self, node: &Node, operator: &str) -> Result<Expr, Fault> {
        let typed = self.lower(node)?;
        if typed.ty == Type::Bool {
            return Ok(typed.expr);
        }
        let reason = format!(
            "`{operator}` joins conditions, this is {}; compare it with something",
            typed.ty
        );
        Err(Fault::new(typed.span, reason))
    }

    /// A name with dots: a value of the scope, then members of a tuple.
    fn path(&mut self, node: &Node) -> Result<Typed, Fault> {
        if let Some(name) = dotted(node)
            && let Some(Entry { field, ty, .. }) = self.scope.get(&name)
        {
            let (expr, ty) = (Expr::Field(field.clone()), ty.clone());
            return Ok(Typed { expr, ty, span: node.span });
        }
        match &node.kind {
            NodeKind::Select { of, member, member_span } => {
                if !self.resolves(of) {
                    let name = dotted(node).unwrap_or_default();
                    return Err(self.unknown(node.span, &name));
                }
                let of = self.lower(of)?;
                let Type::Tuple(fields) = &of.ty else {
                    let reason = format!("{} has no members", of.ty);
                    return Err(Fault::new(*member_span, format!("{reason}; remove `.{member}`")));
                };
                let names = fields.iter().map(|field| field.name.as_str());
                let Some(position) = fields.iter().position(|field| field.name == *member) else {
                    let near = suggestion(member, names);
                    return Err(Fault::new(*member_span, format!("no member `{member}`{near}")));
                };
                let ty = fields.get(position).map_or(Type::Null, |field| Type::of(&field.ty));
                let expr = Expr::Member { of: Box::new(of.expr), position };
                Ok(Typed { expr, ty, span: node.span })
            }
            NodeKind::Name(name) if name == "labels" => Err(Fault::new(
                node.span,
                "labels stand on the right of `in`: `from in labels[\"treasury\"]`",
            )),
            NodeKind::Name(name) => Err(self.unknown(node.span, name)),
            _ => Err(Fault::new(node.span, "this is not a name")),
        }
    }

    /// Whether a path starts with a known name; what is no path explains itself when lowered.
    fn resolves(&self, node: &Node) -> bool {
        match (dotted(node), &node.kind) {
            (Some(name), _) if self.scope.get(&name).is_some() => true,
            (Some(_), NodeKind::Select { of, .. }) => self.resolves(of),
            (Some(_), _) => false,
            (None, _) => true,
        }
    }

    fn unknown(&self, span: Span, name: &str) -> Fault {
        let names: Vec<_> = self.scope.names().collect();
        let near = suggestion(name, names.iter().copied());
        Fault::new(span, format!("no argument or value is called `{name}`{near}"))
    }

    fn index(&mut self, span: Span, of: &Node, index: &Node) -> Result<Typed, Fault> {
        if matches!(&of.kind, NodeKind::Name(name) if name == "labels") {
            let reason = "labels stand on the right of `in`: `from in labels[\"treasury\"]`";
            return Err(Fault::new(span, reason));
        }
        let of = self.lower(of)?;
        let Type::List(item) = of.ty else {
            return Err(Fault::new(of.span, format!("only a list has items, this is {}", of.ty)));
        };
        let index = self.lower(index)?;
        if !index.ty.is_number() {
            return Err(Fault::new(
                index.span,
                format!("an index is a number, this is {}", index.ty),
            ));
        }
        let expr = Expr::Item { of: Box::new(of.expr), index: Box::new(index.expr) };
        Ok(Typed { expr, ty: *item, span })
    }

    fn negate(&mut self, span: Span, of: &Node) -> Result<Typed, Fault> {
        let of = self.number(of)?;
        let expr = match of.expr {
            Expr::Const(constant) => {
                Expr::Const(constants::negate(&constant).ok_or_else(|| {
                    Fault::new(span, "this constant is below -2^255, the least int256")
                })?)
            }
            other => Expr::Negate(Box::new(other)),
        };
        let ty = if matches!(expr, Expr::Const(Const::Uint(_))) { Type::Uint } else { Type::Int };
        Ok(Typed { expr, ty, span })
    }

    fn number(&mut self, node: &Node) -> Result<Typed, Fault> {
        let typed = self.lower(node)?;
        if typed.ty.is_number() {
            return Ok(typed);
        }
        let remedy = match (&typed.ty, self.hashed(node)) {
            (_, Some(ty)) => format!("; it is an indexed {ty}, of which the log has only the hash"),
            (Type::Text, _) => "; write numbers without quotes, or units(\"1.5\", 6)".to_owned(),
            _ => String::new(),
        };
        Err(Fault::new(
            typed.span,
            format!("arithmetic needs a number, this is {}{remedy}", typed.ty),
        ))
    }

    fn arithmetic(
        &mut self,
        span: Span,
        op: ArithmeticOp,
        left: &Node,
        right: &Node,
    ) -> Result<Typed, Fault> {
        let (left, right) = (self.number(left)?, self.number(right)?);
        if let (Expr::Const(a), Expr::Const(b)) = (&left.expr, &right.expr) {
            let folded =
                constants::arithmetic(op, a, b).map_err(|reason| Fault::new(span, reason))?;
            let ty = if matches!(folded, Const::Uint(_)) { Type::Uint } else { Type::Int };
            return Ok(Typed { expr: Expr::Const(folded), ty, span });
        }
        if matches!(op, ArithmeticOp::Divide | ArithmeticOp::Remainder)
            && matches!(&right.expr, Expr::Const(zero) if constants::is_zero(zero))
        {
            return Err(Fault::new(right.span, "division by zero; the rule could never match"));
        }
        let (left, right) = self.same_type(left, right)?;
        let ty = left.ty;
        let (left, right) = (Box::new(left.expr), Box::new(right.expr));
        Ok(Typed { expr: Expr::Arithmetic { op, left, right }, ty, span })
    }

    /// Brings two operands to one type: equal ones stay, of two numbers both become signed.
    fn same_type(&self, left: Typed, right: Typed) -> Result<(Typed, Typed), Fault> {
        match (&left.ty, &right.ty) {
            (a, b) if a == b => Ok((left, right)),
            (Type::Bytes(_), Type::Bytes(_)) => Ok((left, right)),
            (a, b) if a.is_number() && b.is_number() => Ok((to_int(left)?, to_int(right)?)),
            (a, b) => {
                let span = left.span.to(right.span);
                Err(Fault::new(span, format!("both sides need one type, these are {a} and {b}")))
            }
        }
    }

    fn compare(
        &mut self,
        span: Span,
        op: CompareOp,
        left_node: &Node,
        right_node: &Node,
    ) -> Result<Typed, Fault> {
        let (mut left, mut right) = (self.lower(left_node)?, self.lower(right_node)?);
        let mut op = op;
        let mut nodes = (left_node, right_node);
        if matches!(left.expr, Expr::Const(_)) && !matches!(right.expr, Expr::Const(_)) {
            (left, right, op, nodes) = (right, left, op.flipped(), (right_node, left_node));
        }
        let typed = |expr| Ok(Typed { expr, ty: Type::Bool, span });
        if right.ty == Type::Null {
            return match (left.expr, op) {
                (Expr::Field(field), CompareOp::Equal) => {
                    typed(Expr::Not(Box::new(Expr::Has(field))))
                }
                (Expr::Field(field), CompareOp::NotEqual) => typed(Expr::Has(field)),
                _ => Err(Fault::new(right.span, "null is compared with a value by == or != only")),
            };
        }
        for side in [&left, &right] {
            if matches!(side.ty, Type::List(_) | Type::Tuple(_)) {
                let reason = format!("{} is not compared as a whole; compare its parts", side.ty);
                return Err(Fault::new(side.span, reason));
            }
        }
        if let Expr::Const(constant) = &right.expr
            && !matches!(left.expr, Expr::Const(_))
        {
            let hashed = self.hashed(nodes.0);
            let constant = self.coerce(constant, &right, &left.ty, hashed.as_ref())?;
            right.ty = constants::type_of(&constant, &left.ty);
            right.expr = Expr::Const(constant);
        }
        let comparable = match (&left.ty, &right.ty) {
            (a, b) if a.is_number() && b.is_number() => true,
            (Type::Bytes(_), Type::Bytes(_)) => true,
            (a, b) => a == b,
        };
        if !comparable {
            let reason = format!("{} is not comparable with {}", left.ty, right.ty);
            return Err(Fault::new(span, reason));
        }
        let ordered = !matches!(op, CompareOp::Equal | CompareOp::NotEqual);
        if ordered && matches!(left.ty, Type::Bool | Type::Address) {
            let reason = format!("{} has no order; compare with == or !=", left.ty);
            return Err(Fault::new(span, reason));
        }
        typed(Expr::Compare { op, left: Box::new(left.expr), right: Box::new(right.expr) })
    }

    /// The type of an indexed argument of which only the hash is known.
    fn hashed(&self, node: &Node) -> Option<AbiType> {
        self.scope.get(&dotted(node)?)?.hashed.clone()
    }
}

/// `tx.from`, where a node is nothing but names and dots.
fn dotted(node: &Node) -> Option<String> {
    match &node.kind {
        NodeKind::Name(name) => Some(name.clone()),
        NodeKind::Select { of, member, .. } => Some(format!("{}.{member}", dotted(of)?)),
        _ => None,
    }
}

fn to_int(typed: Typed) -> Result<Typed, Fault> {
    let Typed { expr, ty, span } = typed;
    let expr = match expr {
        expr if ty == Type::Int => expr,
        Expr::Const(Const::Uint(value)) => {
            let value = I256::from_parts(false, value).ok_or_else(|| {
                Fault::new(span, "this constant is above 2^255 - 1, the greatest int256")
            })?;
            Expr::Const(Const::Int(value))
        }
        other => Expr::ToInt(Box::new(other)),
    };
    Ok(Typed { expr, ty: Type::Int, span })
}

pub(crate) use constants::key_for;
pub use membership::MAX_LABELLED;
pub(crate) use membership::{equal_keys, keyed};

#[cfg(test)]
mod tests;
