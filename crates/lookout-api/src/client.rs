//! Which address a request comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use http::HeaderName;
use http::request::Parts;

use crate::state::Live;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the peer's, or the nearest one in `X-Forwarded-For` that no trusted
/// proxy wrote about itself.
pub(crate) fn address(request: &Parts, live: &Live) -> IpAddr {
    let peer = request.extensions.get::<ConnectInfo<SocketAddr>>();
    // Without a connection (a router called in process) the caller is this machine.
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |info| info.0.ip());
    if !live.trusts(peer) {
        return peer;
    }
    let mut client = peer;
    let lines = request.headers.get_all(X_FORWARDED_FOR);
    let text: Vec<&str> = lines.iter().filter_map(|line| line.to_str().ok()).collect();
    for hop in text.iter().rev().flat_map(|line| line.rsplit(',')) {
        // What is no address was not written by a proxy of ours: stop at the last known one.
        let Ok(address) = hop.trim().parse() else { break };
        client = address;
        if !live.trusts(address) {
            break;
        }
    }
    client
}
