//! Watching chains, whole: simulated chains, the real server, stand-ins for what it sends to.

mod backtest;
mod balances;
mod changes;
mod commands;
mod confirmations;
mod disk;
mod faults;
mod hostile;
mod instances;
mod jobs;
mod kills;
mod mail;
mod odd_logs;
mod odd_tokens;
mod property;
mod refusals;
mod scene;
mod shape;
mod storm;
mod stream;
mod world;
