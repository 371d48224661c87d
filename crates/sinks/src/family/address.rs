//! Which addresses may be called (delivery-guarantees.md 14).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

#[cfg(test)]
mod tests;

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

    /// Refuses an address under which `host` was found. A metadata address is allowed only by an
    /// entry that is this address: names can be made to lead anywhere, and networks are wide.
    pub(crate) fn check(&self, host: &str, address: IpAddr) -> Result<(), Blocked> {
        let end = embedded_v4(address).map_or(address, IpAddr::V4);
        let is_listed = |bits_min: fn(IpAddr) -> u8| {
            self.networks.iter().any(|(network, bits)| {
                *bits >= bits_min(*network)
                    && (in_network(address, *network, *bits) || in_network(end, *network, *bits))
            })
        };
        if is_metadata(end) {
            return match is_listed(width) {
                true => Ok(()),
                false => Err(Blocked("cloud metadata addresses are never called")),
            };
        }
        let host = host.trim_end_matches('.');
        if self.deny_private
            && is_special(end)
            && !self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
            && !is_listed(|_| 0)
        {
            return Err(Blocked(
                "private and special addresses are not allowed (outbound.deny_private_addresses)",
            ));
        }
        Ok(())
    }

    /// Refuses a host that is an address, as it stands in a URL; names are checked when they are
    /// resolved.
    pub(crate) fn check_host(&self, host: &str) -> Result<(), Blocked> {
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => self.check(host, address),
            Err(_) => Ok(()),
        }
    }
}

fn parse_network(entry: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match entry.split_once('/') {
        None => (entry.parse().ok()?, None),
        Some((address, bits)) => (address.parse().ok()?, Some(bits.parse::<u8>().ok()?)),
    };
    let bits = bits.unwrap_or(width(address));
    (bits <= width(address)).then_some((address, bits))
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
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

/// The IPv4 address inside a mapped, compatible, 6to4 or NAT64 address: it is where the packet
/// ends up.
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, g, h] => Some(join(g, h)),
        [0x2002, b, c, ..] => Some(join(b, c)),
        [0x64, 0xff9b, 0, 0, 0, 0, g, h] => Some(join(g, h)),
        _ => None,
    }
}

/// Where clouds hand out credentials or settings to anything that asks.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => [
            // AWS, Google Cloud, Azure, DigitalOcean, Oracle and others
            [169, 254, 169, 254],
            // AWS: tasks, pods
            [169, 254, 170, 2],
            [169, 254, 170, 23],
            // Tencent Cloud, Scaleway, Alibaba Cloud, Oracle Cloud's former one
            [169, 254, 0, 23],
            [169, 254, 42, 42],
            [100, 100, 100, 200],
            [192, 0, 0, 192],
            // Azure's wire server
            [168, 63, 129, 16],
        ]
        .contains(&address.octets()),
        IpAddr::V6(address) => [
            // AWS: machines, pods
            Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
            Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
            // Google Cloud, Scaleway, OpenStack
            Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
            Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
        ]
        .contains(&address),
    }
}

/// No public host has such an address (IANA's special-purpose registries).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => match address.octets() {
            // this network, private, loopback, multicast and reserved
            [0 | 10 | 127 | 224.., ..] => true,
            // shared, link-local, private
            [100, 64..=127, ..] | [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => true,
            // protocol assignments, documentation, the former 6to4 relays
            [192, 0, 0 | 2, _] | [192, 88, 99, _] => true,
            // benchmarks, documentation
            [198, 18..=19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
            _ => false,
        },
        IpAddr::V6(address) => match address.segments() {
            // protocol assignments (Teredo, benchmarks, ORCHID), documentation
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => true,
            // The rest of what is routed; loopback, link-local, unique-local, multicast, local
            // NAT64 and what is reserved lie outside.
            [a, ..] => a & 0xe000 != 0x2000,
        },
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
