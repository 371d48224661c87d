//! Every range, every way to write an address, and what the allow list opens.

use std::net::IpAddr;

use url::Url;

use super::{AddressPolicy, OutboundPolicy};

fn policy(deny_private_addresses: bool, allow: &[&str]) -> AddressPolicy {
    let allow = allow.iter().map(|entry| (*entry).to_owned()).collect();
    AddressPolicy::new(&OutboundPolicy { deny_private_addresses, allow }).unwrap()
}

/// Whether a name that has this address may be called.
fn found(policy: &AddressPolicy, address: &str) -> bool {
    let address: IpAddr = address.parse().unwrap();
    policy.check("name.example", address).is_ok()
}

/// Whether the host of this URL may be called, as far as it is an address.
fn called(policy: &AddressPolicy, url: &str) -> bool {
    let url = Url::parse(url).unwrap();
    policy.check_host(url.host_str().unwrap()).is_ok()
}

/// First and last address of each denied range, and its neighbours if they are public.
const RANGES: &[(&str, &str, &str, &[&str])] = &[
    ("this network", "0.0.0.0", "0.255.255.255", &["1.0.0.0"]),
    ("private", "10.0.0.0", "10.255.255.255", &["9.255.255.255", "11.0.0.0"]),
    ("shared", "100.64.0.0", "100.127.255.255", &["100.63.255.255", "100.128.0.0"]),
    ("loopback", "127.0.0.0", "127.255.255.255", &["126.255.255.255", "128.0.0.0"]),
    ("link-local", "169.254.0.0", "169.254.255.255", &["169.253.255.255", "169.255.0.0"]),
    ("private", "172.16.0.0", "172.31.255.255", &["172.15.255.255", "172.32.0.0"]),
    ("protocol assignments", "192.0.0.0", "192.0.0.255", &["191.255.255.255", "192.0.1.0"]),
    ("documentation", "192.0.2.0", "192.0.2.255", &["192.0.1.255", "192.0.3.0"]),
    ("6to4 relays", "192.88.99.0", "192.88.99.255", &["192.88.98.255", "192.88.100.0"]),
    ("private", "192.168.0.0", "192.168.255.255", &["192.167.255.255", "192.169.0.0"]),
    ("benchmarks", "198.18.0.0", "198.19.255.255", &["198.17.255.255", "198.20.0.0"]),
    ("documentation", "198.51.100.0", "198.51.100.255", &["198.51.99.255", "198.51.101.0"]),
    ("documentation", "203.0.113.0", "203.0.113.255", &["203.0.112.255", "203.0.114.0"]),
    ("multicast", "224.0.0.0", "239.255.255.255", &["223.255.255.255"]),
    ("reserved", "240.0.0.0", "255.255.255.254", &[]),
    ("broadcast", "255.255.255.255", "255.255.255.255", &[]),
    ("unspecified", "::", "::", &[]),
    ("loopback", "::1", "::1", &[]),
    ("compatible", "::7f00:1", "::7fff:ffff", &["::808:808"]),
    ("mapped private", "::ffff:10.0.0.0", "::ffff:10.255.255.255", &["::ffff:9.255.255.255"]),
    ("mapped loopback", "::ffff:127.0.0.1", "::ffff:127.0.0.1", &["::ffff:8.8.8.8"]),
    ("NAT64 private", "64:ff9b::10.0.0.0", "64:ff9b::10.255.255.255", &["64:ff9b::8.8.8.8"]),
    ("local NAT64", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", &[]),
    ("discard", "100::", "100::ffff:ffff:ffff:ffff", &[]),
    ("Teredo", "2001::", "2001::ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("benchmarks", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", &[]),
    ("ORCHID", "2001:10::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("protocol assignments", "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", &["2001:200::"]),
    (
        "documentation",
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        &["2001:db7:ffff::", "2001:db9::"],
    ),
    ("6to4 private", "2002:a00::", "2002:aff:ffff::", &["2002:808:808::", "2002:b00::"]),
    ("6to4 loopback", "2002:7f00:1::1", "2002:7f00:1::1", &[]),
    ("documentation", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", &["3fff:1000::", "3ffe::"]),
    ("segment routing", "5f00::", "5f00:ffff::", &[]),
    ("unique-local", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("link-local", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("site-local", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("multicast", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &[]),
    ("reserved", "4000::", "4000::", &["3ffe:ffff::", "2000::"]),
];

#[test]
fn ranges_are_denied_to_their_last_address_and_no_further() {
    let (closed, open) = (policy(true, &[]), policy(false, &[]));
    for (range, first, last, public) in RANGES {
        for address in [first, last] {
            assert!(!found(&closed, address), "{range} {address}");
            assert!(found(&open, address), "{range} {address} on one's own machine");
        }
        for address in *public {
            assert!(found(&closed, address), "{address} beside {range}");
        }
    }
    for public in ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::200e", "192.31.196.1"] {
        assert!(found(&closed, public), "{public}");
    }
}

#[test]
fn no_spelling_of_an_address_gets_past() {
    let closed = policy(true, &[]);
    for url in [
        "http://127.0.0.1/x",
        "http://2130706433",
        "http://0x7f000001",
        "http://0x7F.0x0.0x0.0x1",
        "http://017700000001",
        "http://0177.0.0.1",
        "http://0177.0x0.1",
        "http://127.1",
        "http://127.0.1",
        "http://127.0.0.1.",
        "http://0",
        "http://%31%32%37.0.0.1",
        "http://１２７.０.０.１",
        "http://127。0。0。1",
        "http://public.example@127.0.0.1",
        "http://public.example:80@127.0.0.1:8080",
        "http://user:8.8.8.8@10.0.0.1/",
        "http://10.0.0.1#@8.8.8.8",
        "http://10.0.0.1?@8.8.8.8",
        "http://10.0.0.1\\@8.8.8.8",
        "http://[::1]:4318",
        "http://[0:0:0:0:0:0:0:1]",
        "http://[::ffff:127.0.0.1]",
        "http://[::ffff:7f00:1]",
        "http://[0:0:0:0:0:FFFF:7F00:0001]",
        "http://[::127.0.0.1]",
        "http://[2002:7f00:0001::]",
        "http://[64:ff9b::7f00:1]",
    ] {
        assert!(!called(&closed, url), "{url}");
    }
    // What is no URL with a host is refused before.
    for url in ["http://[fe80::1%25eth0]", "http://[fe80::1%eth0]", "http://256.0.0.1", "http://0x100000000"]
    {
        assert!(Url::parse(url).is_err(), "{url}");
    }
}

const METADATA: [&str; 14] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.23",
    "169.254.42.42",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:42::42",
    "fe80::a9fe:a9fe",
    "::ffff:169.254.169.254",
];

#[test]
fn metadata_addresses_are_denied_unless_named_one_by_one() {
    let wide = ["0.0.0.0/0", "::/0", "169.254.0.0/16", "fd00::/8", "name.example", "metadata.internal"];
    for (deny, allow) in [(false, &[][..]), (true, &[]), (false, &wide), (true, &wide)] {
        let policy = policy(deny, allow);
        for address in METADATA {
            assert!(!found(&policy, address), "{address} with {allow:?}");
        }
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://2852039166",
            "http://0xA9FEA9FE",
            "http://0251.0376.0251.0376",
            "http://[::ffff:a9fe:a9fe]",
            "http://[::169.254.169.254]",
            "http://[64:ff9b::a9fe:a9fe]",
            "http://[2002:a9fe:a9fe::]",
            "http://[fd00:ec2::254]",
        ] {
            assert!(!called(&policy, url), "{url} with {allow:?}");
        }
    }
    for deny in [false, true] {
        for entry in ["169.254.169.254", "169.254.169.254/32"] {
            let named = policy(deny, &[entry]);
            assert!(called(&named, "http://169.254.169.254"));
            assert!(found(&named, "::ffff:169.254.169.254"));
            assert!(!found(&named, "169.254.170.2"));
            assert!(!found(&named, "fd00:ec2::254"));
        }
        assert!(found(&policy(deny, &["fd00:ec2::254"]), "fd00:ec2::254"));
    }
}

#[test]
fn networks_addresses_and_names_can_be_allowed() {
    let some = policy(true, &["10.1.0.0/16", "::1", "192.168.7.9", "Langfuse.Internal.", "fd12::/32"]);
    for address in ["10.1.0.0", "10.1.255.255", "::1", "192.168.7.9", "::ffff:10.1.2.3", "fd12::7"] {
        assert!(found(&some, address), "{address}");
    }
    for address in ["10.0.255.255", "10.2.0.0", "127.0.0.1", "192.168.7.8", "fd12:1::1", "::ffff:10.2.0.1"] {
        assert!(!found(&some, address), "{address}");
    }
    let private = IpAddr::from([10, 9, 9, 9]);
    for name in ["langfuse.internal", "LANGFUSE.internal.", "langfuse.internal."] {
        assert!(some.check(name, private).is_ok(), "{name}");
    }
    for name in ["x.langfuse.internal", "langfuse.internal.evil.example", "langfuse", ""] {
        assert!(some.check(name, private).is_err(), "{name}");
    }
    for entry in ["10.0.0.0/33", "10.0.0.0/", "x/8", "", "::/129", "10.0.0.0/-1"] {
        let bad = OutboundPolicy { deny_private_addresses: true, allow: vec![entry.to_owned()] };
        assert!(AddressPolicy::new(&bad).is_err(), "{entry}");
    }
}

#[test]
fn the_refusal_names_the_rule_and_not_the_address() {
    let closed = policy(true, &[]);
    for (address, rule) in [("10.1.2.3", "outbound.deny_private_addresses"), ("169.254.169.254", "metadata")]
    {
        let said = closed.check("name.example", address.parse().unwrap()).unwrap_err().to_string();
        assert!(said.contains(rule) && !said.contains(address), "{said}");
    }
}
