//! Rolling restarts: a new process on the same data directory takes over, and no client notices.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::{Home, INGEST_KEY, MANAGEMENT_KEY, PATIENCE};
use tracecast_tests::spans::{generation, request, span_id};

use crate::BINARY;

/// Clients that send one request after the other on connections they keep.
struct Clients {
    running: Vec<tokio::task::JoinHandle<(HashSet<u64>, Vec<String>)>>,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
}

impl Clients {
    fn start(url: &str) -> Clients {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let http1 = || reqwest::Client::builder().no_proxy();
        let clients = [http1(), http1(), http1(), http1().http2_prior_knowledge()];
        let running = clients
            .into_iter()
            .map(|client| {
                let client = client.build().expect("a client");
                let (stop, next, url) = (stop.clone(), next.clone(), format!("{url}/v1/traces"));
                tokio::spawn(async move {
                    let (mut acked, mut failed) = (HashSet::new(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let sent = client
                            .post(&url)
                            .bearer_auth(INGEST_KEY)
                            .header("content-type", "application/x-protobuf")
                            .body(request(&[generation(n, "x")]))
                            .send()
                            .await;
                        match sent {
                            Ok(answer) if answer.status() == 200 => drop(acked.insert(n)),
                            Ok(answer) => failed.push(format!("{n}: {}", answer.status())),
                            Err(error) => failed.push(format!("{n}: {error:?}")),
                        }
                    }
                    (acked, failed)
                })
            })
            .collect();
        Clients { running, stop, next }
    }

    /// Waits until so many more requests were begun: time under load, counted in requests.
    async fn have_sent(&self, more: u64) {
        let until = self.next.load(Ordering::Relaxed) + more;
        let started = Instant::now();
        while self.next.load(Ordering::Relaxed) < until {
            assert!(started.elapsed() < PATIENCE, "the clients are stuck");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What was acknowledged, and what failed.
    async fn finish(self) -> (HashSet<u64>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut acked, mut failed) = (HashSet::new(), Vec::new());
        for client in self.running {
            let (a, f) = client.await.expect("a client ends");
            acked.extend(a);
            failed.extend(f);
        }
        (acked, failed)
    }
}

async fn arrived(sink: &Sink, acked: &HashSet<u64>) {
    let started = Instant::now();
    loop {
        let ids: HashSet<String> = sink.ids().iter().map(|id| tracecast_otlp::hex(id)).collect();
        let missing = acked.iter().filter(|n| !ids.contains(&span_id(**n))).count();
        if missing == 0 {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{missing} of {} acknowledged spans are missing", acked.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rolling_restarts_fail_no_request_and_lose_no_span() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let home = Home::new(BINARY);
    home.config("");
    let mut gateway = home.start();
    let address = gateway.http.clone();
    let url = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "one", json!({ "endpoint": url })).await;
    let clients = Clients::start(&address);
    for round in 0..20 {
        clients.have_sent(50).await;
        let successor = tokio::task::block_in_place(|| home.start());
        assert_eq!(successor.http, address, "round {round}");
        let predecessor = std::mem::replace(&mut gateway, successor);
        assert_eq!(predecessor.ended(), 0, "round {round}:\n{}", home.stderr());
    }
    clients.have_sent(50).await;
    let (acked, failed) = clients.finish().await;
    assert!(failed.is_empty(), "{} of {} failed: {failed:#?}", failed.len(), acked.len() + failed.len());
    arrived(&sink, &acked).await;
    let stats = gateway.settled(&id, acked.len() as u64).await;
    let seen = sink.stats();
    println!("20 restarts: {} requests, none failed; {} duplicates", acked.len(), seen.duplicates);
    assert_eq!(stats["delivered"].as_u64(), Some(acked.len() as u64), "{stats:#}");
}

/// The orchestrator stops the old process as soon as it has started the new one; the old one's destination hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_successor_waits_is_the_same_handover() {
    let hung = Options { stall: true, ..Options::default() };
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), hung).await.expect("a sink");
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let address = gateway.http.clone();
    let url = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "one", json!({ "endpoint": url })).await;
    let clients = Clients::start(&address);
    clients.have_sent(20).await;

    let mut command = home.command(&["serve", "--config", "config.yaml"]);
    command.env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY);
    let starting = std::thread::scope(|scope| {
        let starting = scope.spawn(|| home.spawn(command));
        let started = Instant::now();
        while !home.stderr().contains("another process takes over") {
            assert!(started.elapsed() < PATIENCE, "no handover:\n{}", home.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        // What is under way there hangs; what the successor sends is answered.
        sink.behave(Options::default());
        let stopped = Instant::now();
        assert_eq!(gateway.stop(), 0);
        println!("the old process ended {:?} after the signal", stopped.elapsed());
        starting.join().expect("the successor starts")
    });
    clients.have_sent(20).await;
    let (acked, failed) = clients.finish().await;
    assert!(failed.is_empty(), "{failed:#?}");
    arrived(&sink, &acked).await;
    starting.settled(&id, acked.len() as u64).await;
}

/// A predecessor that is killed in the middle of its handover: the successor starts as after any crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_killed_halfway_does_not_stop_its_successor() {
    let hung = Options { stall: true, ..Options::default() };
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), hung).await.expect("a sink");
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let url = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "one", json!({ "endpoint": url })).await;
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);

    let mut command = home.command(&["serve", "--config", "config.yaml"]);
    command.env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY);
    let successor = std::thread::scope(|scope| {
        let starting = scope.spawn(|| home.spawn(command));
        let started = Instant::now();
        while !home.stderr().contains("another process takes over") {
            assert!(started.elapsed() < PATIENCE, "no handover:\n{}", home.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        sink.behave(Options::default());
        gateway.kill();
        starting.join().expect("the successor starts")
    });
    successor.settled(&id, 1).await;
    arrived(&sink, &HashSet::from([1])).await;
}
