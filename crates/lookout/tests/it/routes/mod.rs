//! Routes by URL: what they answer, and what bad input gets.

mod bad_config;
mod bad_input;
mod compat;
mod operation;
mod versioned;
