//! The config file while the gateway runs: SIGHUP, a changed file, a bad one, and many edits under load.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::{Gateway, Home, PATIENCE, assert_balanced};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

fn file_destinations(destinations: &[(&str, &Sink)]) -> String {
    let lines = destinations.iter().map(|(name, sink)| {
        let address = sink.address();
        format!(
            "  - {{ type: otel-collector, name: {name}, config: {{ endpoint: \"http://{address}\" }} }}\n"
        )
    });
    format!("destinations:\n{}", lines.collect::<String>())
}

fn hangup(gateway: &Gateway) {
    let sent = Command::new("kill").args(["-HUP", &gateway.pid().to_string()]).status();
    assert!(sent.expect("kill can be run").success());
}

/// Waits until the gateways of this directory have said this.
async fn said(home: &Home, text: &str) {
    let started = Instant::now();
    while !home.stderr().contains(text) {
        assert!(started.elapsed() < PATIENCE, "`{text}` is not said:\n{}", home.stderr());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn states(gateway: &Gateway) -> Vec<(String, String)> {
    let (status, answer) = gateway.api("GET", "/observability/stats", None).await;
    assert_eq!(status, 200, "{answer}");
    let text = |d: &Json, key: &str| d[key].as_str().unwrap_or_default().to_owned();
    let destinations = answer["data"]["destinations"].as_array().expect("destinations");
    let mut states: Vec<_> = destinations.iter().map(|d| (text(d, "name"), text(d, "state"))).collect();
    states.sort();
    states
}

/// Waits until the destinations are in these states. How often the file was taken over does not tell that: the signal and
/// the look at the file may both find the same change.
async fn become_states(gateway: &Gateway, expected: &[(&str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect();
    let started = Instant::now();
    loop {
        let found = states(gateway).await;
        if found == expected {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{found:?} instead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_taken_over_and_a_bad_one_changes_nothing() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let home = Home::new(BINARY);
    home.config(&file_destinations(&[("a", &sink)]));
    let gateway = home.start();
    become_states(&gateway, &[("a", "healthy")]).await;

    home.config(&file_destinations(&[("b", &sink)]));
    hangup(&gateway);
    become_states(&gateway, &[("a", "retired"), ("b", "healthy")]).await;

    // Without a signal: the file is watched.
    home.config(&file_destinations(&[("a", &sink), ("b", &sink)]));
    become_states(&gateway, &[("a", "healthy"), ("b", "healthy")]).await;

    let good = std::fs::read_to_string(home.path().join("config.yaml")).expect("the file");
    std::fs::write(home.path().join("config.yaml"), good.replace("otel-collector", "otel-colector"))
        .expect("a file");
    hangup(&gateway);
    said(&home, "nothing has changed").await;
    assert!(home.stderr().contains("config.yaml:"), "{}", home.stderr());
    become_states(&gateway, &[("a", "healthy"), ("b", "healthy")]).await;

    // A listener and the log need a restart; what else is in the file is taken over.
    home.config(&format!("log: {{ max_age: 1h }}\n{}", file_destinations(&[("b", &sink)])));
    hangup(&gateway);
    become_states(&gateway, &[("a", "retired"), ("b", "healthy")]).await;
    assert!(home.stderr().contains("log.max_age"), "told before the rest is taken over: {}", home.stderr());
    said(&home, "config file taken over").await;
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    assert_eq!(gateway.stop(), 0);
}

/// 100 edits a second for some seconds, through the API and the file, while events flow: nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_edits_a_second_under_load_lose_nothing() {
    const EDITS: u32 = 400;
    /// So many events at least, however long their syncs take beside those of the edits.
    const EVENTS: u64 = 100;
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let home = Home::new(BINARY);
    home.config(&file_destinations(&[("file", &sink)]));
    let gateway = Arc::new(home.start());
    let url = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "edited", json!({ "endpoint": url })).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sending = {
        let (gateway, stop, sent) = (gateway.clone(), stop.clone(), sent.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let body = request(&[generation(sent.load(Ordering::Relaxed), "x")]);
                assert_eq!(gateway.send(body).await.0, 200);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let started = Instant::now();
    let mut n = 0;
    while n < EDITS || (sent.load(Ordering::Relaxed) < EVENTS && !sending.is_finished()) {
        ticks.tick().await;
        if n % 50 == 0 {
            hangup(&gateway);
        }
        // Every kind of edit that keeps the selection: headers, the name, privacy for a moment, another batch of rules.
        let edit = match n % 4 {
            0 => json!({ "config": { "endpoint": url, "headers": { "x-edit": n.to_string() } } }),
            1 => json!({ "name": format!("edited {n}") }),
            2 => json!({ "privacy_mode": true }),
            _ => json!({ "privacy_mode": false }),
        };
        let (status, answer) =
            gateway.api("PATCH", &format!("/observability/destinations/{id}"), Some(&edit)).await;
        assert_eq!(status, 200, "{answer}");
        n += 1;
    }
    let rate = f64::from(n) / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    sending.await.expect("every event is acknowledged");
    let sent = sent.load(Ordering::Relaxed);
    println!("{n} edits at {rate:.0}/s while {sent} events were sent");
    let stats = gateway.settled(&id, sent).await;
    assert_balanced(&stats);
    assert_eq!(stats["delivered"].as_u64(), Some(sent), "{stats:#}");
}
