//! The stop: within its time whatever destinations and clients do, and a second signal hurries it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, PATIENCE};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// A gateway whose three destinations hang with requests under way.
async fn hung(home: &Home, durability: &str) -> (Gateway, Vec<Sink>) {
    home.config(&format!("log: {{ durability: {durability} }}\n"));
    let gateway = home.start();
    let mut sinks = Vec::new();
    for i in 0..3 {
        let stall = Options { stall: true, ..Options::default() };
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), stall).await.expect("a sink");
        let url = format!("http://{}", sink.address());
        gateway.simple("otel-collector", &format!("hung {i}"), json!({ "endpoint": url })).await;
        sinks.push(sink);
    }
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    let started = Instant::now();
    while sinks.iter().any(|sink| sink.stats().requests == 0) {
        assert!(started.elapsed() < PATIENCE, "nothing is being sent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (gateway, sinks)
}

/// Connections of clients that begin a request and never end it.
fn slow_clients(gateway: &Gateway) -> Vec<TcpStream> {
    let address = gateway.http.trim_start_matches("http://");
    let head = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {INGEST_KEY}\r\n");
    let starts = [String::new(), head.clone(), format!("{head}content-length: 1000\r\n\r\nhalf")];
    let connections = starts.iter().map(|start| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(start.as_bytes()).expect("it can be written");
        stream
    });
    connections.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_with_everything_hung_takes_its_time_and_no_more() {
    for durability in ["durable", "memory"] {
        let home = Home::new(BINARY);
        let (gateway, _sinks) = hung(&home, durability).await;
        let _clients = slow_clients(&gateway);
        let started = Instant::now();
        assert_eq!(gateway.stop(), 0, "{}", home.stderr());
        println!(
            "{durability}: stopped in {:?} with every destination and some clients hung",
            started.elapsed()
        );
        assert!(started.elapsed() < Duration::from_secs(30), "{durability}: {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_skips_to_the_sync() {
    let home = Home::new(BINARY);
    let (gateway, sinks) = hung(&home, "buffered").await;
    let mut clients = slow_clients(&gateway);
    let pid = gateway.pid().to_string();
    let started = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    while !home.stderr().contains("stopping") {
        assert!(started.elapsed() < PATIENCE, "it does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(gateway.stop(), 0);
    println!("two signals: stopped in {:?}", started.elapsed());
    // Without the second one the hung requests alone would have had 10 s.
    assert!(home.stderr().contains("are cut"), "{}", home.stderr());
    let mut rest = Vec::new();
    let _ = clients.remove(2).read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"));

    // What was acknowledged is on disk.
    sinks.iter().for_each(|sink| sink.behave(Options::default()));
    let gateway = home.start();
    let (_, answer) = gateway.api("GET", "/observability/stats", None).await;
    for destination in answer["data"]["destinations"].as_array().expect("destinations") {
        gateway.settled(destination["destination_id"].as_str().expect("an id"), 1).await;
    }
}
