//! The policy at the connection: rebinding, mixed answers, redirects, through each client library.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracecast_destination::Kind;

use super::Names;
use crate::testing::*;
use crate::{Adapter, Answer, ClientOptions, Clients, Diagnosis, OutboundPolicy, build};

/// Stands for a public address: the tests allow it and nothing else.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A name server with these answers, one per question, the last from then on; and how often it was
/// asked.
fn names(answers: &[&[Ipv4Addr]]) -> (Names, Arc<AtomicUsize>) {
    let answers: Vec<Vec<IpAddr>> =
        answers.iter().map(|answer| answer.iter().copied().map(IpAddr::V4).collect()).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let names: Names = Arc::new(move |name| {
        assert_eq!(name, "vendor.example");
        let answer = answers[count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)].clone();
        Box::pin(async move { Ok(answer) })
    });
    (names, asked)
}

fn clients(names: Names, deny_private_addresses: bool) -> Clients {
    let outbound = OutboundPolicy { deny_private_addresses, allow: vec![PUBLIC.to_string()] };
    at_receipt(Clients::with_names(ClientOptions { outbound, ..Default::default() }, names).unwrap())
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

/// Listens where nobody may connect.
struct Trap(TcpListener);

impl Trap {
    fn at(port: u16) -> Trap {
        let listener = TcpListener::bind((PRIVATE, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Trap(listener)
    }

    fn is_untouched(&self) -> bool {
        matches!(self.0.accept(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

async fn send(adapter: &dyn Adapter) -> Answer {
    adapter.send(&batch(vec![item(1, &[generation(1)])])).await.answer
}

#[track_caller]
fn assert_blocked(kind: Kind, answer: &Answer, rule: &str) {
    let Answer::Config(failure) = answer else { panic!("{kind}: {answer:?}") };
    assert!(failure.message.contains(rule), "{kind}: {}", failure.message);
    for address in [PUBLIC, PRIVATE, METADATA] {
        assert!(!failure.message.contains(&address.to_string()), "{kind}: {}", failure.message);
    }
}

#[tokio::test]
async fn a_name_that_turns_private_is_not_called_again() {
    for kind in Kind::ALL {
        // Each answer ends its connection, so that the next call needs a new one.
        let server = Server::start(vec![(503, "connection: close\r\n", b"")]).await;
        let trap = Trap::at(port(&server.url));
        let (names, asked) = names(&[&[PUBLIC], &[PRIVATE]]);
        let base = format!("http://vendor.example:{}", port(&server.url));
        let adapter = build(&destination_at(kind, &base), &clients(names, true)).unwrap();
        let first = send(&*adapter).await;
        assert!(!matches!(first, Answer::Config(_)), "{kind}: {first:?}");
        assert_eq!(server.received().len(), 1, "{kind}");
        assert_blocked(kind, &send(&*adapter).await, "outbound.deny_private_addresses");
        assert_eq!(asked.load(Ordering::Relaxed), 2, "{kind}");
        let report = adapter.test().await;
        assert_eq!(report.diagnosis, Diagnosis::BlockedAddress, "{kind}");
        assert!(report.hint.contains("outbound.allow"), "{kind}: {}", report.hint);
        assert!(!format!("{report:?}").contains(&PRIVATE.to_string()), "{kind}: {report:?}");
        assert!(trap.is_untouched(), "{kind}");
        assert_eq!(server.received().len(), 1, "{kind}");
    }
}

#[tokio::test]
async fn one_private_address_among_several_refuses_the_name() {
    for answer in [[PUBLIC, PRIVATE], [PRIVATE, PUBLIC]] {
        for kind in Kind::ALL {
            let server = Server::start(vec![(200, "", b"")]).await;
            let trap = Trap::at(port(&server.url));
            let base = format!("http://vendor.example:{}", port(&server.url));
            let clients = clients(names(&[&answer]).0, true);
            let adapter = build(&destination_at(kind, &base), &clients).unwrap();
            assert_blocked(kind, &send(&*adapter).await, "outbound.deny_private_addresses");
            assert!(trap.is_untouched() && server.received().is_empty(), "{kind}");
        }
    }
}

#[tokio::test]
async fn hosts_given_as_addresses_are_refused_by_every_client() {
    let trap = Trap::at(0);
    let port = trap.0.local_addr().unwrap().port();
    for kind in Kind::ALL {
        for host in ["127.0.0.2", "2130706434", "0x7f.2", "[::ffff:127.0.0.2]", "127.0.0.2."] {
            let clients = clients(names(&[&[PUBLIC]]).0, true);
            let adapter = build(&destination_at(kind, &format!("http://{host}:{port}")), &clients).unwrap();
            let answer = send(&*adapter).await;
            let Answer::Config(failure) = answer else { panic!("{kind} {host}: {answer:?}") };
            assert!(failure.message.contains("outbound.deny_private_addresses"), "{}", failure.message);
            assert_eq!(adapter.test().await.diagnosis, Diagnosis::BlockedAddress, "{kind} {host}");
        }
    }
    assert!(trap.is_untouched());
}

#[tokio::test]
async fn metadata_is_refused_on_ones_own_machine_too() {
    for kind in Kind::ALL {
        let clients = clients(names(&[&[METADATA]]).0, false);
        let adapter = build(&destination_at(kind, "http://vendor.example:80"), &clients).unwrap();
        assert_blocked(kind, &send(&*adapter).await, "metadata");
        let adapter = build(&destination_at(kind, "http://169.254.169.254"), &clients).unwrap();
        assert_eq!(adapter.test().await.diagnosis, Diagnosis::BlockedAddress, "{kind}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for kind in Kind::ALL {
        for status in [301, 302, 303, 307, 308] {
            let elsewhere = Server::start(vec![(200, "", b"")]).await;
            // The script of a server lives as long as the process.
            let to: &'static str = Box::leak(format!("location: {}/\r\n", elsewhere.url).into_boxed_str());
            let server = Server::start(vec![(status, to, b"")]).await;
            let clients = crate::testing::clients();
            let adapter = build(&destination_at(kind, &server.url), &clients).unwrap();
            let answer = send(&*adapter).await;
            assert!(matches!(answer, Answer::Config(_)), "{kind} {status}: {answer:?}");
            assert!(!adapter.test().await.ok, "{kind} {status}");
            assert!(elsewhere.received().is_empty(), "{kind} {status}");
        }
    }
}

#[tokio::test]
async fn the_names_of_the_system_are_found_and_checked() {
    let outbound = OutboundPolicy { deny_private_addresses: true, allow: Vec::new() };
    let clients =
        at_receipt(Clients::with_options(ClientOptions { outbound, ..Default::default() }).unwrap());
    for kind in Kind::ALL {
        let adapter = build(&destination_at(kind, "http://localhost:1"), &clients).unwrap();
        assert_eq!(adapter.test().await.diagnosis, Diagnosis::BlockedAddress, "{kind}");
    }
}
