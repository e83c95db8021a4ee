//! Headers that are checked before anything is built on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lookout_types::ChainId;

use super::canonical::Followed;
use crate::Level;
use crate::verify::{self, Finding, HeaderInfo, VerifyError};

/// Chains known to hash their headers by Ethereum's rules: mainnet, Sepolia, Hoodi, OP, Gnosis,
/// Polygon, Base, and the development chains of anvil and hardhat.
const STANDARD: [u64; 9] = [1, 11_155_111, 560_048, 10, 100, 137, 8453, 31_337, 1337];
/// Said where a header's hash cannot be checked.
pub(crate) const UNVERIFIABLE: &str = "this chain's headers are not hashed by ethereum's rules";

/// How strictly a chain's headers are held to Ethereum's hashing.
///
/// An unknown chain may hash differently. The first header that recomputes shows that it does
/// not, and from then on a mismatch is a lie.
#[derive(Debug)]
pub(crate) struct HeaderRules {
    strict: AtomicBool,
}

impl HeaderRules {
    pub(crate) fn of(chain: ChainId) -> Self {
        Self { strict: AtomicBool::new(STANDARD.contains(&chain.0)) }
    }

    /// Settles a header check: passes what verifies, tolerates what this chain cannot verify.
    pub(crate) fn settle(
        &self,
        checked: Result<(HeaderInfo, Finding), VerifyError>,
        block_json: &[u8],
    ) -> Result<(HeaderInfo, Finding), VerifyError> {
        match checked {
            Ok((header, Finding::Verified)) => {
                self.strict.store(true, Ordering::Relaxed);
                Ok((header, Finding::Verified))
            }
            Ok(unverifiable) => Ok(unverifiable),
            Err(error) if self.strict.load(Ordering::Relaxed) => Err(error),
            Err(VerifyError::HeaderHash { .. }) => {
                verify::parse_header(block_json).map(|h| (h, Finding::Unverifiable(UNVERIFIABLE)))
            }
            Err(error) => Err(error),
        }
    }

    /// A checked header out of an `eth_getBlockBy…` answer.
    pub(crate) fn check(&self, block_json: &[u8]) -> Result<Followed, VerifyError> {
        let checked = verify::check_header(block_json);
        let (header, finding) = self.settle(checked, block_json)?;
        let unverifiable = match finding {
            Finding::Verified => None,
            Finding::Unverifiable(why) => Some(why),
        };
        Ok(Followed { header: Arc::new(header), unverifiable, level: Level::Single })
    }
}
