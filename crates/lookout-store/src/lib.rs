//! The store: tenants, API keys and the audit log, in SQLite or Postgres.
//!
//! Does: migrate its own schema, create and check API keys, keep an audit row for every change.
//! Does not: know HTTP, chains or configuration files; decide who may do what.
//! Units: times in milliseconds since 1970 UTC, from the [`Clock`](lookout_types::Clock).
//! Errors: [`StoreError`], by what the caller can do; passwords in URLs never appear in them.
//! Source: RFC 9562 (version 7 ids), FIPS 180-4 (SHA-256), the common SQL of SQLite and Postgres.

mod audit;
mod auth_cache;
mod engine;
mod error;
mod ids;
mod key;
mod keys;
mod migrate;
mod page;
mod scopes;
mod store;
mod store_url;
#[cfg(test)]
mod suite;
mod tenants;

pub use audit::{Actor, AuditEntry};
pub use auth_cache::AUTH_CACHE_TTL_MS;
pub use error::StoreError;
pub use key::{KeyInfo, NewKey};
pub use migrate::{AppliedMigration, PendingMigration};
pub use page::{PAGE_LIMIT_MAX, Page};
pub use scopes::{Scope, Scopes, ScopesError};
pub use store::Store;
pub use store_url::{StoreUrl, StoreUrlError};
pub use tenants::{TENANT_DEFAULT, TenantInfo};
