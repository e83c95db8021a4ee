//! What has to be read for balance rules: a frame has no balances.

use lookout_types::{Address, Asset};

use crate::error::RuleError;
use crate::expr::{Const, ConstSet, Expr};
use crate::index::RecordKind;
use crate::rule::Rule;
use crate::scope::{Builtin, Field};

/// Most balances that one rule watches, accounts times assets: some seconds of an upstream's batches
/// at every block.
pub const MAX_BALANCES: usize = 2_000;

const TOKEN: Field = Field::Builtin(Builtin::Token);

impl Rule {
    /// Whether it is a rule on balances.
    pub(crate) fn is_of_balances(&self) -> bool {
        self.groups.iter().any(|group| group.kind == RecordKind::Balance)
    }

    /// The balances that it watches: of each account the native coin, unless the condition asks for
    /// a token, and every token that the condition compares `token` with. Empty for every other
    /// kind of rule.
    pub fn reads(&self) -> Vec<(Address, Asset)> {
        let native = self.reads_native().then_some(Asset::Native);
        let tokens = self.tokens.iter().map(|token| Asset::Erc20(*token));
        let assets: Vec<Asset> = native.into_iter().chain(tokens).collect();
        self.accounts()
            .flat_map(|account| assets.iter().map(move |asset| (account, *asset)))
            .collect()
    }

    /// Refuses a rule that watches too many.
    pub(crate) fn with_bounded_reads(self) -> Result<Self, RuleError> {
        let assets = self.tokens.len() + usize::from(self.reads_native());
        match self.accounts().count() * assets {
            balances if balances > MAX_BALANCES => Err(RuleError::Invalid(format!(
                "the rule watches {balances} balances (accounts times assets), the limit is \
                 {MAX_BALANCES}; name fewer accounts or tokens, or split the rule"
            ))),
            _ => Ok(self),
        }
    }

    fn accounts(&self) -> impl Iterator<Item = Address> {
        let accounts = self.groups.iter().filter(|group| group.kind == RecordKind::Balance);
        accounts.filter_map(|group| group.address)
    }

    fn reads_native(&self) -> bool {
        let asks =
            |access: &crate::access::Access| access.equal.iter().any(|(field, _)| *field == TOKEN);
        !self.accesses.iter().all(asks)
    }
}

/// The constants that `token` is compared with, sorted, each once.
pub(crate) fn tokens_of(condition: &Expr) -> Vec<Address> {
    let mut tokens = Vec::new();
    collect(condition, &mut tokens);
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

fn is_token(expr: &Expr) -> bool {
    matches!(expr, Expr::Field(field) if *field == TOKEN)
}

/// The checker bounds the depth of the tree, so this recursion is bounded too. A token can stand
/// nowhere but in a comparison, a list, or a branch of logic.
fn collect(expr: &Expr, tokens: &mut Vec<Address>) {
    match expr {
        Expr::Compare { left, right, .. } if is_token(left) => {
            if let Expr::Const(Const::Address(token)) = **right {
                tokens.push(token);
            }
        }
        Expr::InSet { item, set } if is_token(item) => {
            if let ConstSet::Keys(keys) = &**set {
                tokens.extend(keys.iter().map(|key| {
                    let mut token = Address::default();
                    token.0.copy_from_slice(&key[12..]);
                    token
                }));
            }
        }
        Expr::Not(of) => collect(of, tokens),
        Expr::All(parts) | Expr::Any(parts) => {
            parts.iter().for_each(|part| collect(part, tokens));
        }
        Expr::Choice { condition, yes, no } => {
            for part in [condition, yes, no] {
                collect(part, tokens);
            }
        }
        _ => {}
    }
}
