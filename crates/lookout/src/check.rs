//! `lookout config check`.

use std::time::Duration;

use lookout_chain::{UpstreamSpec, redact};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::app::App;
use crate::failure::Failure;

/// Longest that an upstream may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints the configuration as understood; with `probe`, whether each upstream can be reached.
/// An upstream that cannot is no mistake in the configuration: `serve` starts without it too.
pub(crate) async fn check(app: &App, probe: bool) -> Result<String, Failure> {
    let settings = app.settings()?;
    let from = settings.file.as_ref().map_or_else(
        || "defaults and environment".to_owned(),
        |file| format!("{} and environment", file.display()),
    );
    let mut text = format!("# The configuration is valid. Read from: {from}\n");
    for notice in &settings.notices {
        text.push_str(&format!("# Note: {notice}\n"));
    }
    text.push('\n');
    text.push_str(&settings.show());
    if probe {
        text.push('\n');
        let mut probes = JoinSet::new();
        for chain in settings.chains {
            for upstream in chain.upstreams {
                let chain = chain.name.clone();
                probes.spawn(async move { format!("# {chain}: {}\n", reach(&upstream).await) });
            }
        }
        let mut lines = probes.join_all().await;
        lines.sort();
        text.push_str(&lines.concat());
    }
    Ok(text)
}

/// Opens a connection and closes it: no request is made, so no quota is spent.
async fn reach(upstream: &UpstreamSpec) -> String {
    let (name, url) = (&upstream.name, redact(&upstream.url));
    let host = upstream.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = match (upstream.url.port_or_known_default(), upstream.url.scheme()) {
        (Some(port), _) => port,
        (None, "ws" | "http") => 80,
        (None, _) => 443,
    };
    match tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => format!("`{name}` ({url}) accepts connections"),
        Ok(Err(error)) => format!("`{name}` ({url}) cannot be reached: {error}"),
        Err(_) => {
            format!("`{name}` ({url}) did not answer within {} s", PROBE_TIMEOUT.as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_probe_tells_open_from_closed_and_shows_no_key() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = UpstreamSpec {
            name: "node".to_owned(),
            url: format!("http://u:hunter2@{address}/v3/hunter3?k=hunter4").parse().unwrap(),
            requests_per_second: None,
        };
        let open = reach(&upstream).await;
        assert_eq!(open, format!("`node` (http://{address}) accepts connections"));
        drop(listener);
        let closed = reach(&upstream).await;
        assert!(closed.starts_with(&format!("`node` (http://{address}) cannot be reached: ")));
    }
}
