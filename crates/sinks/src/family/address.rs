//! Which addresses may be called, checked at every connection (delivery-guarantees.md 14).
//!
//! The check sits in the resolver, so a name that changes its address later is checked again. A
//! host given as an address never meets a resolver and is checked before the call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use url::{Host, Url};

/// The address policy as configured (`outbound` of the config file).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundPolicy {
    /// Refuse loopback, private, link-local, shared, multicast and reserved addresses.
    pub deny_private_addresses: bool,
    /// Host names, addresses or networks (`10.0.0.0/8`) that are allowed all the same.
    pub allow: Vec<String>,
}

/// The compiled policy.
#[derive(Debug)]
pub(crate) struct AddressPolicy {
    deny_private: bool,
    names: Vec<String>,
    networks: Vec<(IpAddr, u8)>,
}

/// A refused address. Names the rule, never the address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Blocked(&'static str);

/// A name that could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ResolveFailed {
    /// The name does not exist, as opposed to a name server that does not answer.
    pub(crate) unknown_name: bool,
    message: String,
}

impl AddressPolicy {
    pub(crate) fn new(policy: &OutboundPolicy) -> Result<AddressPolicy, String> {
        let mut names = Vec::new();
        let mut networks = Vec::new();
        for (i, entry) in policy.allow.iter().enumerate() {
            match parse_network(entry) {
                Some(network) => networks.push(network),
                None if entry.contains('/') || entry.is_empty() => {
                    return Err(format!(
                        "outbound.allow[{i}]: {entry:?} is neither a host name nor a network like 10.0.0.0/8"
                    ));
                }
                None => names.push(entry.trim_end_matches('.').to_ascii_lowercase()),
            }
        }
        Ok(AddressPolicy { deny_private: policy.deny_private_addresses, names, networks })
    }

    /// Refuses an address under which `host` was found.
    fn check(&self, host: &str, address: IpAddr) -> Result<(), Blocked> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if self.names.contains(&host) {
            return Ok(());
        }
        let address = embedded_v4(address).map_or(address, IpAddr::V4);
        if self.networks.iter().any(|(network, bits)| in_network(address, *network, *bits)) {
            return Ok(());
        }
        if is_metadata(address) {
            return Err(Blocked("cloud metadata addresses are never called"));
        }
        if self.deny_private && is_special(address) {
            return Err(Blocked(
                "private and special addresses are not allowed (outbound.deny_private_addresses)",
            ));
        }
        Ok(())
    }

    /// Refuses a URL whose host is an address; names are checked when they are resolved.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), Blocked> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(&address.to_string(), IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => self.check(&address.to_string(), IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }
}

/// The system resolver behind the policy, in the forms the three client libraries ask for.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    policy: Arc<AddressPolicy>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Resolver {
    pub(crate) fn new(policy: Arc<AddressPolicy>) -> Resolver {
        Resolver { policy }
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, BoxError> {
        let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| {
            let message = error.to_string();
            ResolveFailed {
                unknown_name: ["not known", "nodename", "No address", "no such host"]
                    .iter()
                    .any(|text| message.contains(text)),
                message,
            }
        })?;
        let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if addresses.is_empty() {
            return Err(Box::new(ResolveFailed {
                unknown_name: true,
                message: "the name has no address".into(),
            }));
        }
        // Every address is checked: a mixed answer is refused as a whole.
        for address in &addresses {
            self.policy.check(name, *address)?;
        }
        Ok(addresses)
    }

    async fn sockets(self, name: String) -> Result<std::vec::IntoIter<SocketAddr>, BoxError> {
        let addresses = self.lookup(&name).await?;
        let sockets: Vec<SocketAddr> =
            addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
        Ok(sockets.into_iter())
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let found = self.clone().sockets(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(found.await?) as reqwest::dns::Addrs) })
    }
}

impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().sockets(name.as_str().to_owned()))
    }
}

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move { self.lookup(name).await.map_err(ResolveDnsError::new) })
    }
}

fn parse_network(entry: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match entry.split_once('/') {
        None => (entry.parse().ok()?, None),
        Some((address, bits)) => (address.parse().ok()?, Some(bits.parse::<u8>().ok()?)),
    };
    let most = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width - u32::from(bits);
        shift >= width || (a >> shift) == (b >> shift)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

/// The IPv4 address inside a mapped, 6to4 or NAT64 address: it is where the packet ends up.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    let [a, b, c, _, _, _, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    if a == 0x2002 {
        return Some(join(b, c));
    }
    if (a, b) == (0x64, 0xff9b) {
        return Some(join(g, h));
    }
    None
}

/// Where clouds hand out credentials to anything that asks.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => [
            [169, 254, 169, 254],
            [169, 254, 170, 2],
            [169, 254, 170, 23],
            [100, 100, 100, 200],
            [192, 0, 0, 192],
        ]
        .contains(&address.octets()),
        IpAddr::V6(address) => [
            Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
            Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
            Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
        ]
        .contains(&address),
    }
}

/// Loopback, private, link-local, shared, documentation, benchmark, multicast, reserved.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_documentation()
                || address.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b))
        }
        IpAddr::V6(address) => {
            let [a, b, ..] = address.segments();
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || (a & 0xfe00) == 0xfc00
                || (a & 0xffc0) == 0xfe80
                || (a & 0xffc0) == 0xfec0
                || (a == 0x2001 && b == 0xdb8)
                || a == 0x100
        }
    }
}

/// The URL speaks of this machine or a private network, where bandwidth is cheap.
pub(crate) fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_special(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => is_special(IpAddr::V6(address)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            // A single label is a name of a local network or a container.
            !name.contains('.')
                || [".localhost", ".local", ".internal", ".svc", ".lan", ".home.arpa"]
                    .iter()
                    .any(|suffix| name.ends_with(suffix))
        }
        None => false,
    }
}
