//! The bare stage of the crate's own measurements: answers in, blocks out, no upstream.

use lookout_types::ChainId;

use super::collect::Standing;
use super::filter::Filter;
use super::whole::{Culprit, recompute};
use super::{SourceBlock, Wants, decode, evm};
use crate::heads::HeaderRules;
use crate::verify::{self, Finding};

/// Checks the `eth_getBlockByNumber` answers of consecutive blocks and reads the `eth_getLogs`
/// answer of their range, as a source does with what upstreams answer.
///
/// # Errors
/// What is wrong, in words.
pub fn blocks(
    chain: ChainId,
    headers: &[&[u8]],
    logs: &[u8],
    wants: &Wants,
) -> Result<Vec<SourceBlock>, String> {
    let rules = HeaderRules::of(chain);
    let checked: Result<Vec<_>, _> = headers.iter().map(|json| rules.check(json)).collect();
    let headers = checked.map_err(|error| error.to_string())?;
    for pair in headers.windows(2) {
        let [parent, child] = pair else { continue };
        verify::check_parent(&child.header, parent.block()).map_err(|error| error.to_string())?;
    }
    let found = decode::logs(logs, &headers, &Filter::of(wants)).map_err(|w| format!("{w:?}"))?;
    if let Some(at) = found.iter().position(|found| found.standing != Standing::Whole) {
        return Err(format!("the logs of block {at} are not whole"));
    }
    let blocks = headers.iter().zip(found).map(|(header, found)| SourceBlock {
        header: evm::told(header),
        transactions: Vec::new(),
        logs: found.logs,
    });
    Ok(blocks.collect())
}

/// Checks a block with its transactions as objects and all its receipts, recomputing every root, and
/// reads both, as a source does with what upstreams answer.
///
/// # Errors
/// What is wrong, or cannot be proved, in words.
pub fn whole(chain: ChainId, block: &[u8], receipts: &[u8]) -> Result<SourceBlock, String> {
    let header = HeaderRules::of(chain).check(block).map_err(|error| error.to_string())?;
    let (finding, records) =
        recompute(&header, block, receipts).map_err(|culprit| match culprit {
            Culprit::Block(error) => format!("the block: {error}"),
            Culprit::Receipts(error) => format!("the receipts: {error}"),
        })?;
    match finding {
        Finding::Verified => Ok(SourceBlock {
            header: evm::told(&header),
            transactions: records.transactions,
            logs: records.logs,
        }),
        Finding::Unverifiable(why) => Err(why.to_owned()),
    }
}
