//! Sources over small chains, honest upstreams and lying ones.

mod agree;
mod decode;
mod flow;
mod node;
mod recorded;
mod scene;
mod whole;
