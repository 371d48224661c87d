//! A workspace that holds more connections than it may: told so over HTTP and gRPC, closed, and felt by nobody else.

use bytes::{BufMut as _, BytesMut};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, PATIENCE};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// A connection to the HTTP listener, used by one request after the other.
struct Client(TcpStream);

impl Client {
    async fn connect(gateway: &Gateway) -> Client {
        let address = gateway.http.strip_prefix("http://").expect("a URL");
        Client(TcpStream::connect(address).await.expect("a connection"))
    }

    /// The head of the answer to a request of this key.
    async fn send(&mut self, key: &str, n: u64) -> String {
        let body = request(&[generation(n, &"x".repeat(300_000))]);
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
             content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // All of it: a gateway that refuses a request takes its body nevertheless.
        self.0.write_all(head.as_bytes()).await.expect("sent");
        self.0.write_all(&body).await.expect("sent");
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(self.0.read_u8().await.expect("an answer"));
        }
        let text = String::from_utf8(text).expect("text").to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.expect("a length").parse().expect("a number")];
        self.0.read_exact(&mut body).await.expect("the body");
        text
    }

    /// Nothing comes any more.
    async fn is_closed(&mut self) {
        let end = tokio::time::timeout(PATIENCE, self.0.read_u8()).await.expect("closed in time");
        assert!(end.is_err(), "{end:?}");
    }
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).expect("a status")
}

/// A client of the gRPC listener with a connection of its own.
fn grpc_client() -> reqwest::Client {
    reqwest::Client::builder().http2_prior_knowledge().build().expect("a client")
}

/// The gRPC status, and the details that come with it.
async fn export(client: &reqwest::Client, gateway: &Gateway, key: &str, n: u64) -> (String, String) {
    let message = request(&[generation(n, "x")]);
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.put_slice(&message);
    let path = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let post = client.post(format!("http://{}/{path}", gateway.grpc)).bearer_auth(key);
    let answer = post.header("content-type", "application/grpc").body(body.freeze()).send().await;
    let answer = answer.expect("an answer");
    let text = |name: &str| answer.headers().get(name).map_or("", |v| v.to_str().expect("text")).to_owned();
    let found = (text("grpc-status"), text("grpc-status-details-bin"));
    // The connection stays in the client's pool only if its answer was read.
    answer.bytes().await.expect("the message");
    found
}

async fn refused(gateway: &Gateway) -> (u64, String) {
    let (_, stats) = gateway.api("GET", "/observability/stats", None).await;
    let requests = stats["data"]["gateway"]["rejected"]["too_many_connections"].as_u64();
    let (_, metrics) = gateway.get_admin("/metrics").await;
    let name = "tracecast_ingest_connections_refused_total{bound=\"workspace\"} ";
    let connections = metrics.lines().find_map(|line| line.strip_prefix(name));
    (
        requests.unwrap_or_else(|| panic!("{stats:#}")),
        connections.unwrap_or_else(|| panic!("{metrics}")).to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_holds_as_many_connections_as_it_may_and_its_neighbour_has_its_own() {
    let home = Home::new(BINARY);
    home.config("limits: { workspace_connections: 3 }\n");
    let gateway = home.start();
    let body = json!({ "name": "other", "slug": "other" });
    let (_, workspace) = gateway.api("POST", "/workspaces", Some(&body)).await;
    let body = json!({ "name": "theirs", "workspace_id": workspace["data"]["id"] });
    let (_, key) = gateway.api("POST", "/keys", Some(&body)).await;
    let theirs = key["key"].as_str().expect("a key");

    // Two by HTTP and one by gRPC: all that it may.
    let (mut first, mut second) = (Client::connect(&gateway).await, Client::connect(&gateway).await);
    let third = grpc_client();
    for n in 0..3 {
        assert_eq!(status(&first.send(INGEST_KEY, 10 + n).await), "200");
        assert_eq!(status(&second.send(INGEST_KEY, 20 + n).await), "200");
        assert_eq!(export(&third, &gateway, INGEST_KEY, 30 + n).await.0, "");
    }
    let mut fourth = Client::connect(&gateway).await;
    let head = fourth.send(INGEST_KEY, 40).await;
    assert_eq!(status(&head), "429", "{head}");
    assert!(head.contains("\r\nretry-after: "), "{head}");
    fourth.is_closed().await;
    let (code, details) = export(&grpc_client(), &gateway, INGEST_KEY, 41).await;
    assert_eq!(code, "8", "RESOURCE_EXHAUSTED");
    assert!(!details.is_empty(), "RetryInfo");
    assert_eq!(refused(&gateway).await, (2, "2".to_owned()));

    // Nobody else is concerned, nor are those that were there; a connection of theirs used for us does not become ours.
    let mut neighbour = Client::connect(&gateway).await;
    assert_eq!(status(&neighbour.send(theirs, 50).await), "200");
    assert_eq!(export(&grpc_client(), &gateway, theirs, 51).await.0, "");
    assert_eq!(status(&neighbour.send(INGEST_KEY, 52).await), "429");
    assert_eq!(status(&neighbour.send(theirs, 53).await), "200");
    assert_eq!(status(&first.send(INGEST_KEY, 54).await), "200");

    // A place that is given back is somebody's again.
    drop(second);
    let taken = tokio::time::timeout(PATIENCE, async {
        for n in 100.. {
            let mut next = Client::connect(&gateway).await;
            if status(&next.send(INGEST_KEY, n).await) == "200" {
                return next;
            }
        }
        unreachable!("numbers do not end")
    });
    let mut taken = taken.await.expect("a place in time");
    assert_eq!(status(&taken.send(INGEST_KEY, 60).await), "200");
}
