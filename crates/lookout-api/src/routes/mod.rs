//! Handlers, one file per group of routes.

pub(crate) mod abis;
pub(crate) mod alerts;
pub(crate) mod chains;
pub(crate) mod channels;
pub(crate) mod compat;
pub(crate) mod dashboard;
pub(crate) mod deliveries;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod follow;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod labels;
pub(crate) mod ops;
pub(crate) mod rpc;
pub(crate) mod rules;
pub(crate) mod silences;
pub(crate) mod stream;
pub(crate) mod transfers;
