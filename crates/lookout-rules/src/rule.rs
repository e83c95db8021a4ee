//! A rule: what its owner wrote, and what it is compiled to.

use std::fmt;
use std::sync::Arc;

use lookout_abi::{Abi, Event, Function};
use lookout_types::{Address, ChainId};
use ruint::aliases::U256;

use crate::access::{Access, Plan, plan};
use crate::check;
use crate::error::{Part, RuleError};
use crate::expr::Expr;
use crate::index::{GroupKey, RecordKind};
use crate::message::Template;
use crate::reads::tokens_of;
use crate::scope::{Builtin, Field, Labels, Scope};
use crate::view::{Subject, View};

/// Most addresses that one rule names; more belong into a label.
pub const MAX_ADDRESSES: usize = 1000;
/// Longest window: 31 days, a month's budget.
pub const MAX_WINDOW_S: u64 = 31 * 86_400;
/// Longest rule name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

/// A rule's id; the 128 bits of the UUID under which it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u128);

/// A rule as its owner wrote it.
#[derive(Debug, Clone)]
pub struct RuleSpec {
    /// Its id.
    pub id: RuleId,
    /// Counted up by each change.
    pub version: u32,
    /// Its name, for messages.
    pub name: String,
    /// The chain that it watches.
    pub chain: ChainId,
    /// The records that it watches.
    pub watch: Watch,
    /// Which of them match; empty for all.
    pub condition: String,
    /// Over which time they are taken together, if at all.
    pub window: Option<Window>,
    /// The message of its alerts; one that lists everything when `None`.
    pub template: Option<String>,
}

/// The records that a rule watches. An empty list of addresses means any.
#[derive(Debug, Clone)]
pub enum Watch {
    /// Logs of one event.
    Event {
        /// The ABI that has it.
        abi: Arc<Abi>,
        /// Its name, or its signature where the name has several.
        event: String,
        /// The contracts that emit it.
        addresses: Vec<Address>,
    },
    /// Transactions, or calls of one function.
    Transaction {
        /// The recipients.
        addresses: Vec<Address>,
        /// The function called: an ABI that has it, and its name or signature.
        function: Option<(Arc<Abi>, String)>,
    },
    /// Transfers of the native coin or of tokens.
    Transfer {
        /// What moves.
        asset: WatchedAsset,
    },
    /// Readings of balances.
    Balance {
        /// The accounts.
        addresses: Vec<Address>,
    },
}

/// The assets of a transfer rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchedAsset {
    /// Everything.
    Any,
    /// The native coin.
    Native,
    /// These token contracts.
    Tokens(Vec<Address>),
}

/// Taking matching records together over time, by the times of their blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// Matches when the number of records begins to fulfil a condition.
    Count {
        /// Length of the window.
        over_s: u64,
        /// On `count`, as in `count >= 5`.
        condition: String,
    },
    /// Matches when the sum of a value begins to fulfil a condition.
    Sum {
        /// Length of the window.
        over_s: u64,
        /// The value of one record.
        of: String,
        /// On `sum` and `count`, as in `sum > units("1000000", 6)`.
        condition: String,
    },
    /// Matches when there was no record for a time.
    Silence {
        /// How long.
        for_s: u64,
    },
}

/// What a rule needs to be read besides logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Transactions.
    pub transactions: bool,
    /// Receipts.
    pub receipts: bool,
}

/// A checked and compiled rule.
#[derive(Debug)]
pub struct Rule {
    id: RuleId,
    version: u32,
    name: String,
    notes: Vec<String>,
    needs: Needs,
    pub(crate) layout: Layout,
    pub(crate) groups: Vec<GroupKey>,
    /// The whole condition, which tests hold against the index.
    #[cfg(test)]
    pub(crate) condition: Option<Expr>,
    pub(crate) accesses: Vec<Access>,
    /// Tokens whose balances it compares, sorted.
    pub(crate) tokens: Vec<Address>,
    /// What is left to evaluate once the index found the rule.
    pub(crate) residual: Option<Expr>,
    pub(crate) window: Option<CompiledWindow>,
    pub(crate) template: Template,
}

/// How a record's arguments are decoded.
#[derive(Debug, Clone)]
pub(crate) enum Layout {
    None,
    Event(Arc<Event>),
    Function(Arc<Function>),
}

#[derive(Debug, Clone)]
pub(crate) enum CompiledWindow {
    Tally { over_s: u64, of: Option<Expr>, condition: Expr },
    Silence { for_s: u64 },
}

impl Layout {
    /// Whether two layouts decode every record alike; names do not matter.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Event(a), Self::Event(b)) => {
                Arc::ptr_eq(a, b) || {
                    let shape = |p: &lookout_abi::Param| (p.ty.clone(), p.indexed);
                    a.topic0 == b.topic0
                        && a.anonymous == b.anonymous
                        && a.params.len() == b.params.len()
                        && a.params.iter().zip(&b.params).all(|(a, b)| shape(a) == shape(b))
                }
            }
            (Self::Function(a), Self::Function(b)) => {
                Arc::ptr_eq(a, b) || (a.selector == b.selector && a.signature == b.signature)
            }
            _ => false,
        }
    }
}

impl Rule {
    /// Checks a rule and compiles it.
    ///
    /// # Errors
    /// [`RuleError`] says where the rule is wrong, why, and what to do.
    pub fn compile(spec: RuleSpec, labels: &Labels) -> Result<Self, RuleError> {
        if spec.name.len() > MAX_NAME_BYTES {
            return Err(invalid(format!("the rule's name is longer than {MAX_NAME_BYTES} bytes")));
        }
        let (layout, groups, mut scope) = target(&spec)?;
        scope.labels.clone_from(labels);
        let condition = match spec.condition.trim() {
            "" => None,
            _ => Some(on(Part::Condition, &spec.condition, |text| check::condition(text, &scope))?),
        };
        let window = match &spec.window {
            None => None,
            Some(window) => Some(compile_window(window, &spec.watch, &scope)?),
        };
        let template_scope = match &spec.window {
            None => scope.clone(),
            Some(Window::Silence { .. }) => Scope::silence(),
            Some(window) => {
                let mut with_window = scope.clone();
                with_window.add_window(matches!(window, Window::Sum { .. }));
                with_window
            }
        };
        let template = match &spec.template {
            Some(text) => on(Part::Template, text, |text| Template::parse(text, &template_scope))?,
            None => Template::listing(&template_scope),
        };
        let mut needs = needs_of(&spec.watch);
        let sum = match &window {
            Some(CompiledWindow::Tally { of, .. }) => of.as_ref(),
            _ => None,
        };
        for expr in condition.iter().chain(sum) {
            walk(expr, &mut |field| needs.add(field));
        }
        template.fields().for_each(|field| needs.add(field));
        let Plan { accesses, residual } = plan(condition.as_ref(), groups.len());
        let tokens = condition.as_ref().map(tokens_of).unwrap_or_default();
        let (id, version, name, notes) = (spec.id, spec.version, spec.name, scope.notes);
        let rule = Self {
            id,
            version,
            name,
            notes,
            needs,
            layout,
            groups,
            #[cfg(test)]
            condition,
            accesses,
            tokens,
            residual,
            window,
            template,
        };
        rule.with_bounded_reads()
    }

    /// Its id.
    pub fn id(&self) -> RuleId {
        self.id
    }

    /// Its version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its owner should know, such as arguments hidden by names of Lookout's own.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What has to be read for it.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Its message.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// How far back its state reaches; `None` for a rule without a window.
    pub fn window_s(&self) -> Option<u64> {
        match &self.window {
            None => None,
            Some(CompiledWindow::Tally { over_s, .. }) => Some(*over_s),
            Some(CompiledWindow::Silence { for_s }) => Some(*for_s),
        }
    }
}

impl Needs {
    fn add(&mut self, field: &Field) {
        if let Field::Builtin(builtin) = field {
            match builtin {
                Builtin::TxStatus | Builtin::TxGasUsed | Builtin::TxFee | Builtin::TxCreated => {
                    (self.transactions, self.receipts) = (true, true);
                }
                Builtin::TxFrom
                | Builtin::TxTo
                | Builtin::TxValue
                | Builtin::TxNonce
                | Builtin::TxInput
                | Builtin::TxSelector => self.transactions = true,
                _ => {}
            }
        }
    }
}

fn needs_of(watch: &Watch) -> Needs {
    match watch {
        Watch::Transaction { .. } => Needs { transactions: true, receipts: false },
        // A failed transaction moves no value, and only its receipt says that it failed.
        Watch::Transfer { asset: WatchedAsset::Any | WatchedAsset::Native } => {
            Needs { transactions: true, receipts: true }
        }
        Watch::Event { .. } | Watch::Transfer { .. } | Watch::Balance { .. } => Needs::default(),
    }
}

fn invalid(reason: impl Into<String>) -> RuleError {
    RuleError::Invalid(reason.into())
}

fn on<T>(
    part: Part,
    source: &str,
    check: impl FnOnce(&str) -> Result<T, crate::syntax::Fault>,
) -> Result<T, RuleError> {
    check(source).map_err(|fault| RuleError::at(part, source, fault))
}

/// Where the rule's records are found, how they decode, and what they are made of.
fn target(spec: &RuleSpec) -> Result<(Layout, Vec<GroupKey>, Scope), RuleError> {
    let chain = spec.chain;
    let keys = |kind, addresses: &[Address], selector: Option<[u8; 32]>| {
        if addresses.len() > MAX_ADDRESSES {
            return Err(invalid(format!(
                "the rule names {} addresses, the limit is {MAX_ADDRESSES}; put them into a label \
                 and write `address in labels[\"…\"]`",
                addresses.len()
            )));
        }
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        let key = |address| GroupKey { chain, kind, address, selector };
        if addresses.is_empty() {
            return Ok(vec![key(None)]);
        }
        Ok(addresses.into_iter().map(|address| key(Some(address))).collect())
    };
    match &spec.watch {
        Watch::Event { abi, event, addresses } => {
            let event = abi.event(event)?.clone();
            let topic0 = (!event.anonymous).then_some(event.topic0.0);
            if event.anonymous && addresses.is_empty() {
                return Err(invalid(format!(
                    "`{}` is anonymous, so nothing tells its logs from others; name the contracts \
                     that emit it",
                    event.signature
                )));
            }
            let groups = keys(RecordKind::Log, addresses, topic0)?;
            let scope = Scope::event(&event.params);
            Ok((Layout::Event(event), groups, scope))
        }
        Watch::Transaction { addresses, function } => {
            let Some((abi, name)) = function else {
                let groups = keys(RecordKind::Transaction, addresses, None)?;
                return Ok((Layout::None, groups, Scope::transaction(&[])));
            };
            let function = abi.function(name)?.clone();
            let selector = crate::expr::bytes_key(&function.selector);
            let groups = keys(RecordKind::Transaction, addresses, selector)?;
            let scope = Scope::transaction(&function.params);
            Ok((Layout::Function(function), groups, scope))
        }
        Watch::Transfer { asset } => {
            let groups = match asset {
                WatchedAsset::Any => keys(RecordKind::Transfer, &[], None)?,
                WatchedAsset::Native => keys(RecordKind::NativeTransfer, &[], None)?,
                WatchedAsset::Tokens(tokens) if tokens.is_empty() => {
                    return Err(invalid("the rule watches no token; name one, or watch any asset"));
                }
                WatchedAsset::Tokens(tokens) => keys(RecordKind::Transfer, tokens, None)?,
            };
            Ok((Layout::None, groups, Scope::transfer()))
        }
        Watch::Balance { addresses } => {
            let groups = keys(RecordKind::Balance, addresses, None)?;
            Ok((Layout::None, groups, Scope::balance()))
        }
    }
}

fn compile_window(
    window: &Window,
    watch: &Watch,
    scope: &Scope,
) -> Result<CompiledWindow, RuleError> {
    let length = match window {
        Window::Count { over_s, .. } | Window::Sum { over_s, .. } => *over_s,
        Window::Silence { for_s } => *for_s,
    };
    if length == 0 {
        return Err(invalid("the window lasts 0 seconds; give it at least 1, or leave it out"));
    }
    if length > MAX_WINDOW_S {
        return Err(invalid(format!(
            "the window lasts {length} seconds, the limit is {MAX_WINDOW_S} (31 days)"
        )));
    }
    if matches!(watch, Watch::Balance { .. }) {
        return Err(invalid(
            "a balance rule has no window: balances are read, they do not happen; watch transfers",
        ));
    }
    let (over_s, of, condition) = match window {
        Window::Silence { for_s } => return Ok(CompiledWindow::Silence { for_s: *for_s }),
        Window::Count { over_s, condition } => (*over_s, None, condition),
        Window::Sum { over_s, of, condition } => {
            let of = on(Part::WindowSum, of, |text| check::unsigned(text, scope))?;
            (*over_s, Some(of), condition)
        }
    };
    let inner = Scope::window(of.is_some());
    let expr = on(Part::WindowCondition, condition, |text| check::condition(text, &inner))?;
    if holds_for(&expr, U256::ZERO, U256::ZERO) == Ok(true) {
        return Err(invalid(format!(
            "the window condition `{}` holds for an empty window already; to hear when nothing \
             happens, use a silence",
            condition.chars().take(80).collect::<String>()
        )));
    }
    Ok(CompiledWindow::Tally { over_s, of, condition: expr })
}

/// Evaluates a window's condition.
pub(crate) fn holds_for(
    condition: &Expr,
    count: U256,
    sum: U256,
) -> Result<bool, crate::EvalError> {
    let frame = crate::window::empty_frame();
    let mut view = View::new(&frame, Subject::Block);
    view.window = (count, sum, 0);
    crate::eval::holds(condition, &view)
}

/// Visits every field that an expression reads.
pub(crate) fn walk(expr: &Expr, visit: &mut dyn FnMut(&Field)) {
    match expr {
        Expr::Const(_) => {}
        Expr::Field(field) | Expr::Has(field) => visit(field),
        Expr::Member { of, .. }
        | Expr::Not(of)
        | Expr::Negate(of)
        | Expr::ToInt(of)
        | Expr::ToUint(of)
        | Expr::Size(of)
        | Expr::Matches { of, .. } => walk(of, visit),
        Expr::InSet { item, .. } => walk(item, visit),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| walk(part, visit)),
        Expr::Item { of: left, index: right }
        | Expr::Compare { left, right, .. }
        | Expr::Arithmetic { left, right, .. }
        | Expr::InList { item: left, list: right }
        | Expr::Search { of: left, needle: right, .. } => {
            walk(left, visit);
            walk(right, visit);
        }
        Expr::Choice { condition, yes, no } => {
            for part in [condition, yes, no] {
                walk(part, visit);
            }
        }
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        for (at, digit) in hex.chars().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                f.write_str("-")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
