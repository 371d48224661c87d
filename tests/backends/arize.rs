//! `arize` to Phoenix: spans of another dialect, as Phoenix shows them once they are said in OpenInference.
//!
//! Arize's own service cannot be had; in its place stands a front that asks for the credentials as Arize does and
//! passes the bytes on.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value as Json, json};
use tracecast_tests::process::Gateway;
use tracecast_tests::spans;

use crate::phoenix::{self, ADMIN};
use crate::python::{Server, client};

const CANARY: &str = "canary-prompt-a71e";
const KEY: &str = "arize-key-of-tests";
const SPACE: &str = "arize-space-of-tests";

/// Takes what Arize would take, and gives it to Phoenix.
async fn front(phoenix: &str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let target = format!("{phoenix}/v1/traces");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let target = target.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| pass(request, target.clone()));
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    url
}

async fn pass(
    request: Request<hyper::body::Incoming>,
    target: String,
) -> Result<Response<Full<Bytes>>, http::Error> {
    let (parts, body) = request.into_parts();
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if parts.uri.path() != "/v1/traces" {
        return Response::builder().status(404).body(Full::default());
    }
    if header("authorization") != KEY || header("arize-space-id") != SPACE {
        return Response::builder().status(401).body(Full::from("invalid api key or space id"));
    }
    let body = body.collect().await.expect("a body").to_bytes();
    let answer = client()
        .post(target)
        .bearer_auth(ADMIN)
        .header("content-type", header("content-type"))
        .header("content-encoding", header("content-encoding"))
        .body(body);
    let answer = answer.send().await.expect("phoenix answers");
    let (status, kind) = (answer.status().as_u16(), answer.headers().get("content-type").cloned());
    let mut response = Response::builder().status(status);
    response = kind.into_iter().fold(response, |response, kind| response.header("content-type", kind));
    response.body(Full::from(answer.bytes().await.expect("a body")))
}

fn destination(url: &str, key: &str, project: &str) -> Json {
    let config = json!({ "apiKey": key, "spaceKey": SPACE, "modelId": project, "baseUrl": url });
    json!({ "type": "arize", "name": project, "config": config })
}

/// The generations are said in OpenRouter's words and have nothing of OpenInference.
pub(crate) async fn check(gateway: &Gateway, phoenix: &Server) {
    let url = front(&phoenix.url).await;
    let test = async |body: &Json| {
        let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(body)).await;
        test["data"]["diagnosis"].clone()
    };
    assert_eq!(test(&destination(&url, "another-key", "open")).await, "auth");
    assert_eq!(test(&destination(&url, KEY, "open")).await, "ok");

    let id = gateway.destination(destination(&url, KEY, "open")).await;
    send(gateway, &id, 0..3).await;
    let stored = phoenix::stored(phoenix, "open", 3).await;
    for n in 0..3 {
        let attributes = &said(&stored, n)["attributes"];
        for (key, value) in [
            ("llm.input_messages.0.message.role", "user"),
            ("llm.input_messages.0.message.content", CANARY),
            ("llm.output_messages.0.message.role", "assistant"),
            ("llm.output_messages.0.message.content", &format!("answer to {CANARY}")),
        ] {
            assert_eq!(attributes[key], value, "{attributes:#}");
        }
    }
    let (status, _) = gateway.api("DELETE", &format!("/observability/destinations/{id}"), None).await;
    assert_eq!(status, 200);

    // Other spans: Phoenix keeps a span once, whatever its project.
    let mut private = destination(&url, KEY, "hidden");
    private["privacy_mode"] = json!(true);
    let id = gateway.destination(private).await;
    send(gateway, &id, 3..6).await;
    let stored = phoenix::stored(phoenix, "hidden", 3).await;
    for n in 3..6 {
        said(&stored, n);
    }
    assert!(!Json::from(stored.clone()).to_string().contains(CANARY), "the canary was stored: {stored:#?}");

    // What Phoenix makes of them: the tokens added up, and a price, for which it must know model and tokens.
    for project in ["open", "hidden"] {
        let query = "{projects{edges{node{name tokenCountTotal costSummary{total{cost}}}}}}";
        let request = client().post(format!("{}/graphql", phoenix.url)).bearer_auth(ADMIN);
        let answer = request.json(&json!({ "query": query })).send().await.expect("phoenix answers");
        let answer: Json = answer.json().await.expect("JSON");
        let projects = answer["data"]["projects"]["edges"].as_array().expect("projects");
        let node = projects.iter().map(|edge| &edge["node"]).find(|node| node["name"] == project);
        let node = node.unwrap_or_else(|| panic!("{project} is not there: {answer:#}"));
        assert_eq!(node["tokenCountTotal"], 3.0 * (40.0 + 12.0), "{node}");
        assert!(node["costSummary"]["total"]["cost"].as_f64().is_some_and(|cost| cost > 0.0), "{node}");
    }
}

async fn send(gateway: &Gateway, id: &str, numbers: std::ops::Range<u64>) {
    let count = numbers.end - numbers.start;
    let spans: Vec<_> = numbers.map(|n| spans::generation(n, CANARY)).collect();
    assert_eq!(gateway.send(spans::request(&spans)).await.0, 200);
    gateway.settled(id, count).await;
}

/// The stored span of generation `n`, which says who, which model, how many tokens and what it cost.
fn said(stored: &[Json], n: u64) -> &Json {
    let found = stored.iter().find(|span| span["context"]["span_id"] == spans::span_id(n));
    let span = found.unwrap_or_else(|| panic!("{n} is not stored: {stored:#?}"));
    assert_eq!(span["span_kind"], "LLM", "{span:#}");
    assert_eq!(span["parent_id"], Json::Null, "{span:#}");
    let attributes = &span["attributes"];
    for (key, value) in [
        ("llm.model_name", json!("gpt-4o")),
        ("llm.provider", json!("openai")),
        ("llm.token_count.prompt", json!(40)),
        ("llm.token_count.completion", json!(12)),
        ("llm.cost.total", json!(0.00125)),
        ("session.id", json!("session-0")),
        ("user.id", json!("ada")),
    ] {
        assert_eq!(attributes[key], value, "{key}: {attributes:#}");
    }
    assert_eq!(attributes["metadata.feature"], "tests", "{attributes:#}");
    span
}
