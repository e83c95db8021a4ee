//! Which labels a text uses.

use crate::syntax::{MAX_CONDITION_BYTES, Node, NodeKind, parse};

/// The names behind `labels[…]`, sorted, each once.
pub(super) fn named_in<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names = Vec::new();
    for text in texts {
        let short = !text.trim().is_empty() && text.len() <= MAX_CONDITION_BYTES;
        if let Some(tree) = short.then(|| parse(text).ok()).flatten() {
            collect(&tree, &mut names);
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The parser bounds the depth of the tree, so this recursion is bounded too.
fn collect(node: &Node, names: &mut Vec<String>) {
    match &node.kind {
        NodeKind::Index { of, index } => {
            match (&of.kind, &index.kind) {
                (NodeKind::Name(of), NodeKind::Text(name)) if of == "labels" => {
                    names.push(name.clone());
                }
                _ => {}
            }
            collect(of, names);
            collect(index, names);
        }
        NodeKind::Bool(_)
        | NodeKind::Number(_)
        | NodeKind::Text(_)
        | NodeKind::Bytes(_)
        | NodeKind::Null
        | NodeKind::Name(_) => {}
        NodeKind::Select { of, .. } | NodeKind::Not(of) | NodeKind::Negate(of) => {
            collect(of, names);
        }
        NodeKind::Call { target, arguments, .. } => {
            target.iter().for_each(|target| collect(target, names));
            arguments.iter().for_each(|argument| collect(argument, names));
        }
        NodeKind::List(parts) | NodeKind::All(parts) | NodeKind::Any(parts) => {
            parts.iter().for_each(|part| collect(part, names));
        }
        NodeKind::Compare { left, right, .. }
        | NodeKind::Arithmetic { left, right, .. }
        | NodeKind::In { item: left, list: right } => {
            collect(left, names);
            collect(right, names);
        }
        NodeKind::Choice { condition, yes, no } => {
            [condition, yes, no].into_iter().for_each(|part| collect(part, names));
        }
    }
}
