//! `[compat]`: which chains the routes of older services read.

use super::section::{Check, section};

section! {
    /// Which chains the routes of older services read.
    CompatSection {
        /// Chain of `/block/number` and `/block/{number}`: `polygon` unless set; where that is
        /// not configured, the only chain there is.
        blocks_chain: Option<String> = None,
        /// Chain of `/address/balance/{address}`: `ethereum` unless set; where that is not
        /// configured, the only chain there is.
        balance_chain: Option<String> = None,
    }
}

impl Check for CompatSection {}

/// Chain of the block routes, unless set.
pub(crate) const BLOCKS_CHAIN: &str = "polygon";
/// Chain of the balance route, unless set.
pub(crate) const BALANCE_CHAIN: &str = "ethereum";
