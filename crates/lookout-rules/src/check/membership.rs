//! `in`: constants, labels and lists of a record; equalities in the form that the index uses.

use std::sync::Arc;

use super::constants::key_for;
use super::{Checker, Typed};
use crate::expr::{Const, ConstSet, Expr, Key, address_key};
use crate::scope::{Builtin, Field, suggestion};
use crate::syntax::{CompareOp, Fault, MAX_LIST_ITEMS, Node, NodeKind, Span};
use crate::types::Type;

/// Most addresses in the labels that one rule uses: some megabytes for each of its versions.
pub const MAX_LABELLED: usize = 100_000;

impl Checker<'_> {
    pub(super) fn is_in(
        &mut self,
        span: Span,
        item_node: &Node,
        list: &Node,
    ) -> Result<Typed, Fault> {
        let item = self.lower(item_node)?;
        let typed = |expr| Ok(Typed { expr, ty: Type::Bool, span });
        let set = match &list.kind {
            NodeKind::List(nodes) => {
                let hashed = self.hashed(item_node);
                let mut constants = Vec::with_capacity(nodes.len());
                for node in nodes {
                    let one = self.lower(node)?;
                    let Expr::Const(constant) = &one.expr else {
                        let reason = "a list holds constants; compare with `==` and join with `||`";
                        return Err(Fault::new(one.span, reason));
                    };
                    constants.push(self.coerce(constant, &one, &item.ty, hashed.as_ref())?);
                }
                Arc::new(const_set(&item.ty, constants))
            }
            NodeKind::Index { of, index } if is_labels(of) => self.label(&item, index)?,
            _ => {
                let list = self.lower(list)?;
                let Type::List(of) = &list.ty else {
                    let reason = format!("`in` needs a list on its right, this is {}", list.ty);
                    return Err(Fault::new(list.span, reason));
                };
                let item = match &item.expr {
                    Expr::Const(constant) => Expr::Const(self.coerce(constant, &item, of, None)?),
                    _ if **of == item.ty || (of.is_number() && item.ty.is_number()) => item.expr,
                    _ => {
                        let reason = format!("the list holds {of}, not {}", item.ty);
                        return Err(Fault::new(item.span, reason));
                    }
                };
                let (item, list) = (Box::new(item), Box::new(list.expr));
                return typed(Expr::InList { item, list });
            }
        };
        typed(Expr::InSet { item: Box::new(item.expr), set })
    }

    fn label(&mut self, item: &Typed, index: &Node) -> Result<Arc<ConstSet>, Fault> {
        let NodeKind::Text(name) = &index.kind else {
            return Err(Fault::new(
                index.span,
                "a label is named by a string: labels[\"treasury\"]",
            ));
        };
        let Some(addresses) = self.scope.labels.get(name) else {
            let near = suggestion(name, self.scope.labels.keys().map(String::as_str));
            return Err(Fault::new(index.span, format!("there is no label `{name}`{near}")));
        };
        if item.ty != Type::Address {
            let reason = format!("a label holds addresses, this is {}", item.ty);
            return Err(Fault::new(item.span, reason));
        }
        if addresses.len() > MAX_LIST_ITEMS {
            let reason = format!("the label holds more than {MAX_LIST_ITEMS} addresses; split it");
            return Err(Fault::new(index.span, reason));
        }
        if let Some(known) = self.labels.get(name) {
            return Ok(Arc::clone(known));
        }
        self.labelled += addresses.len();
        if self.labelled > MAX_LABELLED {
            let reason = format!(
                "the labels up to this one hold more than {MAX_LABELLED} addresses, the limit of a \
                 rule; use fewer"
            );
            return Err(Fault::new(index.span, reason));
        }
        let keys = sorted(addresses.iter().map(address_key).collect());
        let set = Arc::new(ConstSet::Keys(keys));
        self.labels.insert(name.clone(), Arc::clone(&set));
        Ok(set)
    }
}

fn is_labels(node: &Node) -> bool {
    matches!(&node.kind, NodeKind::Name(name) if name == "labels")
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}

fn const_set(ty: &Type, constants: Vec<Const>) -> ConstSet {
    if ty.has_key() {
        return ConstSet::Keys(sorted(constants.iter().filter_map(Const::key).collect()));
    }
    let bytes = constants.into_iter().filter_map(|constant| match constant {
        Const::Text(text) => Some(Arc::from(text.as_bytes())),
        Const::Bytes(bytes) => Some(bytes),
        _ => None,
    });
    ConstSet::Bytes(sorted(bytes.collect()))
}

/// `a == 1 || a in [2, 3]` is `a in [1, 2, 3]`, which the index can use.
pub(super) fn any(parts: Vec<Expr>) -> Expr {
    let mut field = None;
    let mut keys = Vec::new();
    for part in &parts {
        let Some((of, some)) = equal_keys(part) else { return Expr::Any(parts) };
        if **field.get_or_insert(of) != *of {
            return Expr::Any(parts);
        }
        keys.extend(some);
        // The same label may be named hundreds of times.
        if keys.len() > 2 * MAX_LABELLED {
            keys = sorted(keys);
        }
    }
    match field {
        Some(field) => Expr::InSet {
            item: Box::new(Expr::Field(field.clone())),
            set: Arc::new(ConstSet::Keys(sorted(keys))),
        },
        None => Expr::Any(parts),
    }
}

/// The field and the keys of a condition that is an equality.
pub(crate) fn equal_keys(expr: &Expr) -> Option<(&Field, Vec<Key>)> {
    match expr {
        Expr::Compare { op: CompareOp::Equal, left, right } => match (&**left, &**right) {
            (Expr::Field(field), Expr::Const(constant)) if keyed(field) => {
                Some((field, vec![key_for(field, constant)?]))
            }
            _ => None,
        },
        Expr::InSet { item, set } => match (&**item, &**set) {
            (Expr::Field(field), ConstSet::Keys(keys)) if keyed(field) => {
                Some((field, keys.clone()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether the index can read a key from a field.
pub(crate) fn keyed(field: &Field) -> bool {
    match field {
        Field::Builtin(builtin) => {
            builtin.ty().has_key() && !matches!(builtin, Builtin::Count | Builtin::Sum)
        }
        Field::Word(..) => true,
        Field::Argument(_) => false,
    }
}
