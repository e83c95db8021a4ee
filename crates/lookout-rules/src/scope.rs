//! The names that a condition or a template can use, and what they read.

use std::collections::BTreeMap;
use std::sync::Arc;

use lookout_abi::{AbiType, Location, Param};
use lookout_types::Address;

use crate::types::Type;

/// Named sets of addresses: `from in labels["treasury"]`.
pub type Labels = BTreeMap<String, Arc<[Address]>>;

/// What a name reads from a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Field {
    Builtin(Builtin),
    /// An argument that is one word, read where it lies.
    Word(Place, WordKind),
    /// An argument that had to be decoded, by position.
    Argument(usize),
}

/// Where a word lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Topic(usize),
    Data(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum WordKind {
    Bool,
    Uint,
    Int,
    Address,
    Fixed(u8),
}

macro_rules! builtins {
    ($($variant:ident $name:literal $ty:expr;)*) => {
        /// A value of the record itself, its transaction, its block or its rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub(crate) enum Builtin { $($variant,)* }

        impl Builtin {
            /// The name for messages.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub(crate) fn ty(self) -> Type {
                match self { $(Self::$variant => $ty,)* }
            }
        }
    };
}

builtins! {
    Chain "chain" Type::Uint;
    BlockNumber "block.number" Type::Uint;
    BlockTimestamp "block.timestamp" Type::Uint;
    BlockHash "block.hash" Type::Bytes(Some(32));
    LogAddress "address" Type::Address;
    LogIndex "logIndex" Type::Uint;
    TxHash "tx.hash" Type::Bytes(Some(32));
    TxFrom "tx.from" Type::Address;
    TxTo "tx.to" Type::Address;
    TxValue "tx.value" Type::Uint;
    TxNonce "tx.nonce" Type::Uint;
    TxInput "tx.input" Type::Bytes(None);
    TxSelector "tx.selector" Type::Bytes(Some(4));
    TxStatus "tx.status" Type::Bool;
    TxGasUsed "tx.gasUsed" Type::Uint;
    TxFee "tx.fee" Type::Uint;
    TxCreated "tx.created" Type::Address;
    Asset "asset" Type::Text;
    Kind "kind" Type::Text;
    Token "token" Type::Address;
    TokenId "tokenId" Type::Uint;
    TransferFrom "from" Type::Address;
    TransferTo "to" Type::Address;
    Amount "amount" Type::Uint;
    Account "account" Type::Address;
    Balance "balance" Type::Uint;
    Previous "previous" Type::Uint;
    Change "change" Type::Int;
    Count "count" Type::Uint;
    Sum "sum" Type::Uint;
    LastSeen "lastSeen" Type::Uint;
    RuleName "rule.name" Type::Text;
}

const BLOCK: [Builtin; 5] = [
    Builtin::Chain,
    Builtin::BlockNumber,
    Builtin::BlockTimestamp,
    Builtin::BlockHash,
    Builtin::RuleName,
];

const TX: [Builtin; 11] = [
    Builtin::TxHash,
    Builtin::TxFrom,
    Builtin::TxTo,
    Builtin::TxValue,
    Builtin::TxNonce,
    Builtin::TxInput,
    Builtin::TxSelector,
    Builtin::TxStatus,
    Builtin::TxGasUsed,
    Builtin::TxFee,
    Builtin::TxCreated,
];

/// One name of a scope.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) field: Field,
    pub(crate) ty: Type,
    /// An indexed argument longer than a word: the log has only its hash.
    pub(crate) hashed: Option<AbiType>,
}

/// Names and labels that a text may use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    names: BTreeMap<String, Entry>,
    pub(crate) labels: Labels,
    /// What to know about names that clash.
    pub(crate) notes: Vec<String>,
    /// Arguments, in order, by the name to reach them.
    pub(crate) arguments: Vec<String>,
}

impl Field {
    /// The field of an argument.
    pub(crate) fn of_param(position: usize, param: &Param) -> Self {
        let kind = match &param.ty {
            AbiType::Bool => WordKind::Bool,
            AbiType::Uint(_) => WordKind::Uint,
            AbiType::Int(_) => WordKind::Int,
            AbiType::Address => WordKind::Address,
            AbiType::FixedBytes(size) => WordKind::Fixed(*size),
            _ if param.indexed => WordKind::Fixed(32),
            _ => return Self::Argument(position),
        };
        Self::Word(
            match param.location {
                Location::Topic(index) => Place::Topic(index),
                Location::Data(offset) => Place::Data(offset),
            },
            kind,
        )
    }
}

impl Scope {
    fn with(builtins: impl IntoIterator<Item = Builtin>) -> Self {
        let mut scope = Self::default();
        for builtin in BLOCK.into_iter().chain(builtins) {
            scope.add(builtin.name(), builtin);
        }
        scope
    }

    fn add(&mut self, name: &str, builtin: Builtin) {
        let entry = Entry { field: Field::Builtin(builtin), ty: builtin.ty(), hashed: None };
        self.names.insert(name.to_owned(), entry);
    }

    pub(crate) fn event(params: &[Param]) -> Self {
        let mut scope = Self::with(TX.into_iter().chain([Builtin::LogAddress, Builtin::LogIndex]));
        scope.add_params(params);
        scope
    }

    pub(crate) fn transaction(params: &[Param]) -> Self {
        let mut scope = Self::with(TX);
        for builtin in TX {
            scope.add(builtin.name().trim_start_matches("tx."), builtin);
        }
        scope.add_params(params);
        scope
    }

    pub(crate) fn transfer() -> Self {
        Self::with(TX.into_iter().chain([
            Builtin::Asset,
            Builtin::Kind,
            Builtin::Token,
            Builtin::TokenId,
            Builtin::TransferFrom,
            Builtin::TransferTo,
            Builtin::Amount,
            Builtin::LogIndex,
        ]))
    }

    pub(crate) fn balance() -> Self {
        Self::with([
            Builtin::Account,
            Builtin::Asset,
            Builtin::Kind,
            Builtin::Token,
            Builtin::Balance,
            Builtin::Previous,
            Builtin::Change,
        ])
    }

    /// What a window's condition sees.
    pub(crate) fn window(sums: bool) -> Self {
        let mut scope = Self::default();
        scope.add_window(sums);
        scope
    }

    /// What the message of a silence sees: there is no record.
    pub(crate) fn silence() -> Self {
        Self::with([Builtin::LastSeen])
    }

    /// Adds what a window's message sees besides its last record.
    pub(crate) fn add_window(&mut self, sums: bool) {
        self.add("count", Builtin::Count);
        if sums {
            self.add("sum", Builtin::Sum);
        }
    }

    fn add_params(&mut self, params: &[Param]) {
        for (position, param) in params.iter().enumerate() {
            let hashed = (param.indexed && !param.ty.is_word()).then(|| param.ty.clone());
            let ty = if hashed.is_some() { Type::Bytes(Some(32)) } else { Type::of(&param.ty) };
            let entry = Entry { field: Field::of_param(position, param), ty, hashed };
            let long = format!("args.{}", param.name);
            let root = format!("{}.", param.name);
            let taken = self.names.contains_key(&param.name)
                || self.names.keys().any(|name| name.starts_with(&root))
                || matches!(param.name.as_str(), "args" | "labels");
            if taken {
                self.notes.push(format!(
                    "`{}` is Lookout's own; the argument of that name is `{long}`",
                    param.name
                ));
                self.arguments.push(long.clone());
            } else {
                self.names.insert(param.name.clone(), entry.clone());
                self.arguments.push(param.name.clone());
            }
            self.names.insert(long, entry);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.names.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }
}

/// `; did you mean …`, or what there is.
pub(crate) fn suggestion<'a>(wanted: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    /// Least similarity (Jaro-Winkler) of a name that is offered.
    const SIMILAR: f64 = 0.75;
    /// Names listed when none is similar.
    const LISTED: usize = 16;
    /// Longest name that is compared and offered, in bytes: the work grows with the product of the
    /// lengths, and an ABI may hold names of any length.
    const COMPARED: usize = 100;
    let short = |name: &'a str| name.strip_prefix("args.").unwrap_or(name);
    let wanted: String = wanted.chars().take(COMPARED).collect();
    let names = names.filter(|name| name.len() <= COMPARED);
    let nearest = names
        .clone()
        .map(|name| (strsim::jaro_winkler(&wanted, short(name)), short(name)))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)));
    match nearest {
        Some((score, name)) if score >= SIMILAR => format!("; did you mean `{name}`?"),
        Some(_) => {
            let listed = names.filter(|name| !name.starts_with("args.")).take(LISTED);
            format!(
                "; there are {}",
                listed.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
            )
        }
        None => String::new(),
    }
}
