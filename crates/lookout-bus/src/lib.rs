//! The bus: the frames of each chain, published once, read by any consumer from its own cursor.
//!
//! Does: keep frames in order, durably, and hand them to consumers that each know where they are.
//! Does not: keep consumers' cursors, which commit with their effects; decide what frames say.
//! Units: sequences count frames of a chain from 1; sizes in bytes.
//! Errors: [`BusError`]; what cannot be read is refused by name, never skipped.
//! Source: the append-only log of databases (checksummed records, a torn tail is cut off).

mod bus;
mod error;
mod local;
#[cfg(any(test, feature = "testing"))]
pub mod suite;
mod url;

pub use bus::{Bus, Claim, FrameStream, open};
pub use error::BusError;
pub use url::{BusUrl, BusUrlError};
