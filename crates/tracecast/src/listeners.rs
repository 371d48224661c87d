//! A destination that is one of this gateway's own listeners: its events would go round in a loop.

use std::net::{IpAddr, SocketAddr};

use tracecast_destination::{Config, Destination, Issue};

/// What speaks against it if it leads to one of `listeners`.
pub(crate) fn own(destination: &Destination, listeners: &[SocketAddr]) -> Option<Issue> {
    let (path, url) = match &destination.config {
        Config::OtelCollector(c) => ("config.endpoint", &c.endpoint),
        Config::Webhook(c) => ("config.url", &c.url),
        Config::Langfuse(c) => ("config.baseUrl", &c.base_url),
        Config::Clickhouse(c) => ("config.host", &c.host),
        _ => return None,
    };
    let url = reqwest::Url::parse(url).ok()?;
    let is_local = match url.host_str()? {
        "localhost" => true,
        host => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| {
            ip.is_loopback() || ip.is_unspecified() || listeners.iter().any(|a| a.ip() == ip)
        }),
    };
    let port = url.port_or_known_default();
    (is_local && listeners.iter().any(|a| port == Some(a.port()))).then(|| Issue {
        path: path.into(),
        message: "is one of this gateway's own listeners: events would go round in a loop".into(),
        hint: Some("name the receiver's address".into()),
    })
}
