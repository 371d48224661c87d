//! The listener over real sockets: slow clients, too many of them, and its end. Where the clock is paused it moves on
//! when everybody waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Bench, KEY, bench, request, span};
use crate::{Bound, Connections, Ending, Listener, Options};

struct Served {
    bench: Bench,
    address: std::net::SocketAddr,
    connections: Arc<Connections>,
    end: watch::Sender<Option<Ending>>,
    task: tokio::task::JoinHandle<()>,
}

async fn serve(connections_max: usize) -> Served {
    let bench = bench(Options::default());
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let connections = Connections::new(connections_max, None);
    let (end, ended) = watch::channel(None);
    let task = tokio::spawn(listener.serve(bench.ingest.http_service(), connections.clone(), ended));
    Served { bench, address, connections, end, task }
}

fn head(body_bytes: usize) -> String {
    format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/x-protobuf\r\ncontent-length: {body_bytes}\r\n\r\n"
    )
}

/// One whole request.
fn whole(n: u8) -> Vec<u8> {
    let body = request(&[span(n, &[])]);
    [head(body.len()).into_bytes(), body].concat()
}

/// Reads an answer without a body; its head.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap_or_else(|e| panic!("{e} after {text:?}"));
        text.push(byte);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_no_whole_head_is_closed() {
    let served = serve(100).await;
    for sent in ["", "P", "PRI * HTTP/2.0\r\n", "POST /v1/traces HTTP/1.1\r\nhost: x\r\n"] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        // An end or a reset: closed either way.
        let _ = stream.read_to_end(&mut rest).await;
        let waited = started.elapsed();
        assert!(
            waited >= Duration::from_secs(29) && waited < Duration::from_secs(61),
            "{sent:?}: {waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_given_up() {
    let served = serve(100).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(head(1000).as_bytes()).await.unwrap();
    let started = Instant::now();
    // Never a pause of 30 s, but less than 1 KiB a second.
    let (mut reading, mut writing) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    let mut text = [0; 12];
    reading.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"HTTP/1.1 408");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    trickle.abort();
    assert_eq!(served.bench.ingest.counters().rejected(crate::Reason::Incomplete), 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_without_measure_is_refused() {
    let served = serve(100).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let huge = format!("POST /v1/traces HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(100 << 10));
    // The server may close before it has read everything.
    let _ = stream.write_all(huge.as_bytes()).await;
    let mut text = [0; 12];
    if stream.read_exact(&mut text).await.is_ok() {
        assert_eq!(&text, b"HTTP/1.1 431");
    }
    assert_eq!(served.bench.ingest.counters().requests(), 0);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_free_place_is_given_again() {
    let served = serve(2).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    first.write_all(&whole(1)).await.unwrap();
    assert!(answer(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = TcpStream::connect(served.address).await.unwrap();
    second.write_all(&whole(2)).await.unwrap();
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
    let mut third = TcpStream::connect(served.address).await.unwrap();
    assert!(!matches!(third.read(&mut [0; 1]).await, Ok(n) if n > 0));
    assert_eq!((served.connections.open(), served.connections.refused(Bound::Total)), (2, 1));
    drop(first);
    while served.connections.open() == 2 {
        tokio::task::yield_now().await;
    }
    let mut fourth = TcpStream::connect(served.address).await.unwrap();
    fourth.write_all(&whole(3)).await.unwrap();
    assert!(answer(&mut fourth).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_listener_that_ends_answers_what_is_on_its_way() {
    let served = serve(100).await;
    let mut kept = TcpStream::connect(served.address).await.unwrap();
    kept.write_all(&whole(1)).await.unwrap();
    assert!(!answer(&mut kept).await.contains("connection: close"));
    let mut open = TcpStream::connect(served.address).await.unwrap();
    let body = request(&[span(2, &[])]);
    open.write_all(head(body.len()).as_bytes()).await.unwrap();
    while served.connections.open() < 2 {
        tokio::task::yield_now().await;
    }

    let ending = Ending { linger: Duration::from_secs(60), grace: Duration::from_secs(60) };
    served.end.send_replace(Some(ending));
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    kept.write_all(&whole(3)).await.unwrap();
    let text = answer(&mut kept).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
    assert_eq!(kept.read(&mut [0; 1]).await.unwrap(), 0);
    open.write_all(&body).await.unwrap();
    assert!(answer(&mut open).await.starts_with("HTTP/1.1 200"));
    served.task.await.unwrap();
    assert_eq!(served.bench.log.accepted(), 3);
    assert_eq!(served.connections.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_stays_silent_is_closed_after_a_while() {
    let served = serve(100).await;
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    while served.connections.open() < 1 {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    let (linger, grace) = (Duration::from_secs(5), Duration::from_secs(60));
    served.end.send_replace(Some(Ending { linger, grace }));
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(started.elapsed() >= linger, "{:?}", started.elapsed());
    served.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_cut() {
    let served = serve(100).await;
    let mut open = TcpStream::connect(served.address).await.unwrap();
    open.write_all(head(1000).as_bytes()).await.unwrap();
    while served.connections.open() < 1 {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    served.end.send_replace(Some(Ending { linger: Duration::from_secs(1), grace: Duration::from_secs(5) }));
    served.task.await.unwrap();
    assert!(started.elapsed() <= Duration::from_secs(7), "{:?}", started.elapsed());
    assert_eq!(served.connections.open(), 0);
}
