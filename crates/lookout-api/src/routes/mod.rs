//! Handlers, one file per group of routes.

pub(crate) mod chains;
pub(crate) mod compat;
pub(crate) mod dashboard;
pub(crate) mod docs;
pub(crate) mod keys;
pub(crate) mod ops;
pub(crate) mod rpc;
