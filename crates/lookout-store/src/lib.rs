//! The store: tenants, API keys and the audit log, in SQLite or Postgres.
//!
//! Does: migrate its own schema, create and check API keys, keep rules with every version of them, keep
//! an audit row for every change.
//! Does not: know HTTP, chains or configuration files; decide who may do what.
//! Units: times in milliseconds since 1970 UTC, from the [`Clock`](lookout_types::Clock).
//! Errors: [`StoreError`], by what the caller can do; passwords in URLs never appear in them.
//! Source: RFC 9562 (version 7 ids), FIPS 180-4 (SHA-256), the common SQL of SQLite and Postgres.

mod abis;
mod alert_changes;
mod alert_object;
mod alerts;
mod audit;
mod auth_cache;
mod channel;
mod channel_check;
mod channels;
mod consumer_cursors;
mod delivery_log;
mod destination;
mod engine;
mod error;
mod follows;
mod idempotency;
mod ids;
mod jobs;
mod key;
mod keys;
mod labels;
mod leases;
mod migrate;
mod outbox;
mod pacing;
mod page;
mod purge;
mod rules;
mod scopes;
mod signals;
mod signing_key;
mod silences;
mod store;
mod store_url;
#[cfg(test)]
mod suite;
mod telegram;
mod tenants;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod watch;

pub use abis::AbiInfo;
pub use alert_changes::{AlertPosition, ChangedAlert};
pub use alerts::{Alert, AlertFilter, AlertSpan, AlertState, SpanKind};
pub use audit::{Actor, AuditEntry};
pub use auth_cache::AUTH_CACHE_TTL_MS;
pub use channel::{
    ChannelChange, ChannelConfig, ChannelInfo, ChannelSecrets, ChannelState, ChatKind, NewChannel,
    SigningKeyInfo,
};
pub use channels::KEY_KEEP_MS_MAX;
pub use delivery_log::{DeliveryFilter, DeliveryInfo, DeliveryKind, DeliveryState, Replayed};
pub use destination::{DestinationError, GuardSettings, Network, NetworkError};
pub use error::StoreError;
pub use idempotency::{Answer, Begun, IDEMPOTENCY_MAX_AGE_MS, RequestTicket};
pub use jobs::{
    ClaimedRun, Due, Ended, FieldError, Job, JobKinds, JobSpec, Misfire, Run, RunState, Schedule,
    ScheduleError, Triggered,
};
pub use key::{KeyInfo, NewKey};
pub use labels::{LABELS_PER_TENANT_MAX, LabelInfo};
pub use leases::ChainLease;
pub use migrate::{AppliedMigration, PendingMigration};
pub use outbox::{
    ChannelSettings, DueChannel, DueChannels, Lease, LeaseAsk, Leased, LeasedItem, LeasedParcel,
    Leasing, Outcome, QUEUE_WAITS_MS, QueueDepth, Swept,
};
pub use pacing::Turn;
pub use page::{PAGE_LIMIT_MAX, Page};
pub use purge::{PurgeAges, Purged};
pub use rules::{RULES_PER_TENANT_MAX, RuleFailure, RuleFilter, RuleInfo, RuleState};
pub use scopes::{Scope, Scopes, ScopesError};
pub use signals::Signals;
pub use signing_key::{SignatureScheme, SigningKey};
pub use silences::{NewSilence, SilenceInfo, SilenceMatcher};
pub use store::Store;
pub use store_url::{StoreUrl, StoreUrlError};
pub use telegram::{
    BotKey, ChainStatus, ChatChannel, ChatRule, ChatStatus, LINK_CODE_TTL_MS, TelegramChat,
};
pub use tenants::{TENANT_DEFAULT, TenantInfo};
#[cfg(any(test, feature = "testing"))]
pub use testing::{TestAlert, TestDelivery};
pub use watch::{
    AlertKey, FreshReadings, KeptWindows, NewAlert, NewRuleFailure, ReadBalance, RuleVersion,
    TakenReadings, TakenUp, VersionsAfter, WATCHED_BLOCKS, WatchChanges, WatchCommit,
    WatchCommitted, WatchState, WatchStep, WatchedBlock, WindowSnapshot, alert_id,
};
