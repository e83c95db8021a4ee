//! The functions of the language.

use std::sync::Arc;

use regex::bytes::RegexBuilder;
use ruint::aliases::U256;
use sha3::{Digest, Keccak256};

use super::constants::parse_address;
use super::{Checker, Typed, dotted};
use crate::expr::{Const, Expr, SearchOp};
use crate::scope::suggestion;
use crate::syntax::{Fault, Node, NodeKind, Span};
use crate::types::Type;

/// Most decimals: 10^77 is the greatest power of ten below 2^256.
const MAX_DECIMALS: u64 = 77;
/// Longest text pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1000;
/// Size of a compiled text pattern; a rule set may hold many.
const MAX_PATTERN_STATE_BYTES: usize = 256 << 10;
/// Most text patterns of one text: each takes milliseconds to compile, whenever the rule is saved or
/// read, and up to twice the size above.
const MAX_PATTERNS: usize = 16;

const FUNCTIONS: [&str; 12] = [
    "units",
    "ether",
    "u256",
    "address",
    "keccak256",
    "int",
    "uint",
    "has",
    "size",
    "startsWith",
    "endsWith",
    "contains",
];

/// CEL's macros over lists, whose cost has no bound.
const MACROS: [&str; 8] =
    ["all", "exists", "exists_one", "map", "filter", "existsOne", "transformList", "sortBy"];

impl Checker<'_> {
    pub(super) fn call(
        &mut self,
        span: Span,
        target: Option<&Node>,
        name: &str,
        name_span: Span,
        arguments: &[Node],
    ) -> Result<Typed, Fault> {
        if MACROS.contains(&name) {
            return Err(Fault::new(
                name_span,
                format!(
                    "`{name}` is a comprehension, whose cost has no bound; use `in`, an index or \
                     `size`"
                ),
            ));
        }
        let wrong_count = |wanted: usize| {
            let found = arguments.len();
            Fault::new(span, format!("`{name}` takes {wanted} arguments here, not {found}"))
        };
        match (target, name, arguments) {
            (None, "units", [text, decimals]) => {
                let text = self.constant_text(text, name)?;
                let decimals = self.constant_decimals(decimals)?;
                constant(span, units(&text, decimals))
            }
            (None, "ether" | "u256" | "address" | "keccak256", [text]) => {
                self.constant_call(span, name, text)
            }
            (None, "int" | "uint", [of]) => self.convert(span, name, of),
            (None, "has", [of]) => self.has(span, of),
            (None, "size", [of]) | (Some(of), "size", []) => self.size(span, of),
            (Some(of), "startsWith", [needle]) => {
                self.search(span, SearchOp::StartsWith, of, needle)
            }
            (Some(of), "endsWith", [needle]) => self.search(span, SearchOp::EndsWith, of, needle),
            (Some(of), "contains", [needle]) => self.search(span, SearchOp::Contains, of, needle),
            (Some(of), "matches", [pattern]) | (None, "matches", [of, pattern]) => {
                self.matches(span, of, pattern)
            }
            (None, "units" | "matches", _) => Err(wrong_count(2)),
            (Some(_), "size", _) => Err(wrong_count(0)),
            (None, "startsWith" | "endsWith" | "contains", _) => {
                Err(Fault::new(name_span, format!("write it behind a value: text.{name}(\"…\")")))
            }
            (Some(_), "startsWith" | "endsWith" | "contains" | "matches", _) => Err(wrong_count(1)),
            (None, known, _) if FUNCTIONS.contains(&known) => Err(wrong_count(1)),
            (Some(_), known, _) if FUNCTIONS.contains(&known) => {
                Err(Fault::new(name_span, format!("write {known}(…), with nothing in front")))
            }
            _ => {
                let near = suggestion(name, FUNCTIONS.into_iter().chain(["matches"]));
                Err(Fault::new(name_span, format!("no function is called `{name}`{near}")))
            }
        }
    }

    fn constant_call(&mut self, span: Span, name: &str, node: &Node) -> Result<Typed, Fault> {
        let text = self.constant_text(node, name)?;
        match name {
            "ether" => constant(span, units(&text, 18)),
            "u256" => {
                let parsed = text.parse::<lookout_types::Amount>();
                constant(span, parsed.map(|amount| amount.0).map_err(|error| error.to_string()))
            }
            "address" => {
                let typed = self.lower(node)?;
                let expr = Expr::Const(Const::Address(parse_address(&text, &typed)?));
                Ok(Typed { expr, ty: Type::Address, span })
            }
            _ => {
                let hash: Arc<[u8]> = Keccak256::digest(text.as_bytes()).as_slice().into();
                let expr = Expr::Const(Const::Bytes(hash));
                Ok(Typed { expr, ty: Type::Bytes(Some(32)), span })
            }
        }
    }

    fn convert(&mut self, span: Span, name: &str, node: &Node) -> Result<Typed, Fault> {
        let of = self.number(node)?;
        if name == "int" {
            return Ok(Typed { span, ..super::to_int(of)? });
        }
        let expr = match of.expr {
            Expr::Const(Const::Int(_)) => {
                return Err(Fault::new(of.span, "this is negative; no uint256 is"));
            }
            expr if of.ty == Type::Uint => expr,
            expr => Expr::ToUint(Box::new(expr)),
        };
        Ok(Typed { expr, ty: Type::Uint, span })
    }

    fn constant_text(&mut self, node: &Node, function: &str) -> Result<String, Fault> {
        match &node.kind {
            NodeKind::Text(text) => Ok(text.clone()),
            _ => {
                let example = match function {
                    "units" => "units(\"1.5\", 6)",
                    "ether" => "ether(\"1.5\")",
                    "u256" => "u256(\"1000\")",
                    _ => "a string in quotes",
                };
                Err(Fault::new(node.span, format!("`{function}` takes a constant: {example}")))
            }
        }
    }

    fn constant_decimals(&mut self, node: &Node) -> Result<usize, Fault> {
        match &node.kind {
            NodeKind::Number(value) if *value <= U256::from(MAX_DECIMALS) => {
                Ok(usize::try_from(*value).unwrap_or_default())
            }
            _ => {
                let reason = format!("the decimals are a number from 0 to {MAX_DECIMALS}");
                Err(Fault::new(node.span, reason))
            }
        }
    }

    fn has(&mut self, span: Span, node: &Node) -> Result<Typed, Fault> {
        if dotted(node).is_none() {
            return Err(Fault::new(node.span, "`has` takes the name of a value: has(tx.to)"));
        }
        let expr = match self.path(node)?.expr {
            Expr::Field(field) => Expr::Has(field),
            // The members of a tuple are always there.
            _ => Expr::Const(Const::Bool(true)),
        };
        Ok(Typed { expr, ty: Type::Bool, span })
    }

    fn size(&mut self, span: Span, of: &Node) -> Result<Typed, Fault> {
        let of = self.lower(of)?;
        if !matches!(of.ty, Type::Text | Type::Bytes(_) | Type::List(_)) {
            let reason = format!("a string, bytes or a list has a size, this is {}", of.ty);
            return Err(Fault::new(of.span, reason));
        }
        Ok(Typed { expr: Expr::Size(Box::new(of.expr)), ty: Type::Uint, span })
    }

    fn search(
        &mut self,
        span: Span,
        op: SearchOp,
        of_node: &Node,
        needle_node: &Node,
    ) -> Result<Typed, Fault> {
        let of = self.searchable(of_node)?;
        let needle = self.lower(needle_node)?;
        let needle = match (&of.ty, &needle.expr) {
            (Type::Bytes(_), Expr::Const(constant)) => {
                Expr::Const(self.coerce(constant, &needle, &Type::Bytes(None), None)?)
            }
            (Type::Bytes(_), _) if matches!(needle.ty, Type::Bytes(_)) => needle.expr,
            (Type::Text, _) if needle.ty == Type::Text => needle.expr,
            _ => {
                let reason = format!("{} holds no {}", of.ty, needle.ty);
                return Err(Fault::new(needle.span, format!("{reason}; use one type")));
            }
        };
        let (of, needle) = (Box::new(of.expr), Box::new(needle));
        Ok(Typed { expr: Expr::Search { op, of, needle }, ty: Type::Bool, span })
    }

    fn searchable(&mut self, node: &Node) -> Result<Typed, Fault> {
        let of = self.lower(node)?;
        if let Some(ty) = self.hashed(node) {
            let reason = format!(
                "the argument is an indexed {ty}, so the log has only its hash; it can be compared \
                 with keccak256(\"…\") alone"
            );
            return Err(Fault::new(of.span, reason));
        }
        if matches!(of.ty, Type::Text | Type::Bytes(_)) {
            return Ok(of);
        }
        Err(Fault::new(of.span, format!("only strings and bytes are searched, this is {}", of.ty)))
    }

    fn matches(&mut self, span: Span, of: &Node, pattern: &Node) -> Result<Typed, Fault> {
        let of = self.searchable(of)?;
        let NodeKind::Text(text) = &pattern.kind else {
            return Err(Fault::new(pattern.span, "a pattern is a constant string"));
        };
        if of.ty != Type::Text {
            let reason = format!("only strings match a pattern, this is {}", of.ty);
            return Err(Fault::new(of.span, reason));
        }
        if text.len() > MAX_PATTERN_BYTES {
            let reason = format!("the pattern is longer than {MAX_PATTERN_BYTES} bytes");
            return Err(Fault::new(pattern.span, reason));
        }
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            let reason = format!(
                "this is pattern {}, the limit is {MAX_PATTERNS}; join them with `|`",
                self.patterns
            );
            return Err(Fault::new(pattern.span, reason));
        }
        let compiled = RegexBuilder::new(text)
            .size_limit(MAX_PATTERN_STATE_BYTES)
            .dfa_size_limit(MAX_PATTERN_STATE_BYTES)
            .build()
            .map_err(|error| {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                let reason = last.trim_start_matches("error: ");
                Fault::new(pattern.span, format!("the pattern is not usable: {reason}"))
            })?;
        let of = Box::new(of.expr);
        Ok(Typed { expr: Expr::Matches { of, pattern: compiled }, ty: Type::Bool, span })
    }
}

fn constant(span: Span, value: Result<U256, String>) -> Result<Typed, Fault> {
    let value = value.map_err(|reason| Fault::new(span, reason))?;
    Ok(Typed { expr: Expr::Const(Const::Uint(value)), ty: Type::Uint, span })
}

/// `units("1.5", 6)` is 1500000: exact, or an error.
fn units(text: &str, decimals: usize) -> Result<U256, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let dot_alone = text.contains('.') && fraction.is_empty();
    if whole.is_empty() || dot_alone || !digits(whole) || !digits(fraction) {
        let shown: String = text.chars().take(40).collect();
        return Err(format!("\"{shown}\" is not a decimal number such as \"1.5\""));
    }
    if fraction.len() > decimals {
        return Err(format!(
            "\"{}\" has {} decimals, the unit has {decimals}",
            text.chars().take(90).collect::<String>(),
            fraction.len()
        ));
    }
    let padded = format!("{whole}{fraction:0<decimals$}");
    let significant = padded.trim_start_matches('0');
    let parsed =
        if significant.len() <= 78 { U256::from_str_radix(&padded, 10).ok() } else { None };
    parsed.ok_or_else(|| "this amount is above 2^256 - 1, the greatest uint256".to_owned())
}
