//! Checks that always run on an answer before it is believed, by what was asked.

use std::sync::Arc;

use bytes::Bytes;
use lookout_types::{Address, BlockRef, Hash, Height};

use crate::Level;
use crate::heads::{Canonical, Followed, HeaderRules, Standing};
use crate::pool::Reject;
use crate::verify::{self, Finding, LogsFinding, VerifyError};

/// What an answer must satisfy.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    /// Nothing can be checked.
    Nothing,
    /// State of a block that exists, so there is an answer, of this form.
    State(Form),
    /// A block. `hash` or `number` is what was asked for; `known` the followed block, if it is.
    Block { hash: Option<Hash>, number: Option<Height>, known: Option<Followed> },
    /// All receipts of a block; with the block itself, where it is at hand, for the fields that
    /// follow from its transactions.
    Receipts { known: Option<Followed>, block: Option<Bytes> },
    /// A transaction by its hash.
    Transaction(Hash),
    /// A receipt by its transaction's hash.
    Receipt(Hash),
    /// Logs of one followed block.
    LogsOfBlock { known: Followed, addresses: Vec<Address>, topics: Vec<Vec<Hash>> },
    /// Logs of several blocks.
    LogsOfRange,
}

/// What the answer to a state read looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A number below 2^256 in hex.
    Quantity,
    /// Bytes in hex.
    Data,
    /// Anything but `null`.
    Any,
}

impl Form {
    pub(crate) fn of(method: &str) -> Self {
        match method {
            "eth_getBalance" | "eth_getTransactionCount" => Self::Quantity,
            "eth_call" | "eth_getCode" | "eth_getStorageAt" => Self::Data,
            _ => Self::Any,
        }
    }

    fn fits(self, json: &[u8]) -> bool {
        let text = || serde_json::from_slice::<&str>(json).ok()?.strip_prefix("0x");
        let hex = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        match self {
            Self::Quantity => text().is_some_and(|t| hex(t) && (1..=64).contains(&t.len())),
            Self::Data => text().is_some_and(hex),
            Self::Any => true,
        }
    }
}

/// What a check learnt.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) level: Level,
    /// Why the level is not higher.
    pub(crate) note: Option<Arc<str>>,
    /// The block that the answer itself names.
    pub(crate) block: Option<BlockRef>,
}

impl Checked {
    fn plain(block: Option<BlockRef>) -> Self {
        Self { level: Level::Single, note: None, block }
    }

    fn found(finding: Finding, level: Level, block: Option<BlockRef>) -> Self {
        match finding {
            Finding::Verified => Self { level, note: None, block },
            Finding::Unverifiable(why) => {
                Self { level: Level::Single, note: Some(why.into()), block }
            }
        }
    }
}

fn lie(error: VerifyError) -> Reject {
    Reject::Lie(error.to_string())
}

impl Check {
    /// Checks an answer against its hashes and against the followed chain.
    pub(crate) fn run(
        &self,
        json: &[u8],
        rules: &HeaderRules,
        canonical: &Canonical,
    ) -> Result<Checked, Reject> {
        if json == b"null" {
            return match self {
                Self::Nothing => Ok(Checked::plain(None)),
                _ => Err(Reject::Missing),
            };
        }
        match self {
            Self::Nothing => Ok(Checked::plain(None)),
            Self::State(form) if form.fits(json) => Ok(Checked::plain(None)),
            Self::State(form) => Err(Reject::Lie(format!("not a {form:?} in hex"))),
            Self::Block { hash, number, known } => {
                block(json, *hash, *number, known.as_ref(), rules)
            }
            Self::Receipts { known: Some(known), block } => {
                let finding = match block {
                    Some(block) => verify::check_receipts_in_block(json, block),
                    None => verify::check_receipts(json, &known.header),
                };
                Ok(Checked::found(finding.map_err(lie)?, known.level, Some(known.block())))
            }
            Self::Receipts { known: None, .. } => Ok(Checked::plain(None)),
            Self::Transaction(asked) => {
                let finding = verify::check_transaction(json, *asked).map_err(lie)?;
                on_branch(inclusion(json)?, finding, canonical)
            }
            Self::Receipt(asked) => {
                let included = inclusion(json)?;
                if included.transaction.is_some_and(|hash| hash != *asked) {
                    return Err(Reject::Lie("the receipt of another transaction".to_owned()));
                }
                let known = included.block.and_then(|b| canonical.by_hash(&b.hash));
                let header = known.map(|k| &*k.header);
                let finding = verify::check_receipt(json, header).map_err(lie)?;
                on_branch(included, finding, canonical)
            }
            Self::LogsOfBlock { known, addresses, topics } => {
                match verify::check_logs(json, &known.header, addresses, topics).map_err(lie)? {
                    LogsFinding::Consistent => Ok(Checked::plain(Some(known.block()))),
                    LogsFinding::Suspicious(_) => Err(Reject::Missing),
                }
            }
            Self::LogsOfRange => {
                let blocks: Vec<Inclusion> = serde_json::from_slice(json)
                    .map_err(|e| Reject::Lie(format!("malformed logs: {e}")))?;
                let abandoned = |log: &Inclusion| {
                    log.block.is_some_and(|b| canonical.standing(b) == Standing::Abandoned)
                };
                if blocks.iter().any(abandoned) {
                    return Err(Reject::OffBranch);
                }
                Ok(Checked::plain(None))
            }
        }
    }
}

fn block(
    json: &[u8],
    hash: Option<Hash>,
    number: Option<Height>,
    known: Option<&Followed>,
    rules: &HeaderRules,
) -> Result<Checked, Reject> {
    let (header, finding) = rules.settle(verify::check_block(json), json).map_err(lie)?;
    let reference = header.reference;
    if let Some(asked) = hash {
        verify::check_asked(&header, asked).map_err(lie)?;
    }
    // A node that lies can pass its block off as one that cannot be recomputed. Not where the
    // same header was recomputed before.
    if known.is_some_and(|block| block.unverifiable.is_none())
        && rules.check(json).map_err(lie)?.unverifiable.is_some()
    {
        return Err(Reject::Lie("a header that recomputed before and now does not".to_owned()));
    }
    if number.is_some_and(|asked| asked != reference.number) {
        return Err(Reject::Lie("another block than the one asked for".to_owned()));
    }
    let level = known.map_or(Level::Single, |block| block.level);
    Ok(Checked::found(finding, level, Some(reference)))
}

/// A transaction or receipt in a block that the followed chain contradicts is no answer.
fn on_branch(
    included: Inclusion,
    finding: Finding,
    canonical: &Canonical,
) -> Result<Checked, Reject> {
    match included.block {
        Some(block) if canonical.standing(block) == Standing::Abandoned => Err(Reject::OffBranch),
        block => Ok(Checked::found(finding, Level::Single, block)),
    }
}

/// Where a transaction, receipt or log says that it is.
#[derive(Debug)]
struct Inclusion {
    block: Option<BlockRef>,
    transaction: Option<Hash>,
}

impl<'de> serde::Deserialize<'de> for Inclusion {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Place<'a> {
            #[serde(default)]
            block_hash: Option<&'a str>,
            #[serde(default)]
            block_number: Option<&'a str>,
            #[serde(default)]
            transaction_hash: Option<&'a str>,
        }
        let place = Place::deserialize(from)?;
        let hash = |text: &str| text.parse::<Hash>().map_err(D::Error::custom);
        let block = match (place.block_hash, place.block_number) {
            (Some(block), Some(number)) => Some(BlockRef {
                hash: hash(block)?,
                number: lookout_types::parse_quantity(number).map_err(D::Error::custom)?,
            }),
            // A pending transaction is in no block yet.
            _ => None,
        };
        Ok(Self { block, transaction: place.transaction_hash.map(hash).transpose()? })
    }
}

fn inclusion(json: &[u8]) -> Result<Inclusion, Reject> {
    serde_json::from_slice(json).map_err(|e| Reject::Lie(format!("malformed answer: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: Form, json: &str, fits: bool) {
        assert_eq!(form.fits(json.as_bytes()), fits, "{form:?} {json}");
    }

    #[test]
    fn state_answers_have_their_form() {
        check(Form::Quantity, "\"0x0\"", true);
        check(Form::Quantity, &format!("\"0x{}\"", "f".repeat(64)), true);
        check(Form::Quantity, &format!("\"0x1{}\"", "0".repeat(64)), false);
        check(Form::Data, "\"0x\"", true);
        check(Form::Data, &format!("\"0x{}\"", "ab".repeat(4000)), true);
        check(Form::Any, "{\"accountProof\":[]}", true);
        for bad in ["\"0x\"", "12", "\"12\"", "{}", "\"0xzz\"", ""] {
            check(Form::Quantity, bad, false);
        }
        for bad in ["7", "\"ab\"", "[]", "\"0xg0\""] {
            check(Form::Data, bad, false);
        }
    }
}
