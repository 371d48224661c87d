//! Datadog's own test agent behind `datadog`, and as a collector of OTLP in protobuf and JSON: what it got.

use std::process::Command;

use base64::Engine as _;
use serde_json::{Value as Json, json};
use tracecast_tests::process::{Gateway, Home};

use crate::python::{Server, client, free_port, run_json, venv};
use crate::sdks::{ANSWERING_MODEL, BINARY, COST, INPUT_TOKENS, OUTPUT_TOKENS, Sent, send};

const CANARY: &str = "canary-prompt-c0de";
const KEY: &str = "datadog-key-of-tests";

/// The agent and the address of its OTLP receiver.
async fn agent(home: &Home) -> (Server, String) {
    let (port, otlp, grpc) = (free_port(), free_port(), free_port());
    let server = Server::start(
        "datadog",
        port,
        "/info",
        Command::new(venv("datadog").join("bin/ddapm-test-agent"))
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--web-ui-port", "0"])
            .args(["--otlp-http-port", &otlp.to_string(), "--otlp-grpc-port", &grpc.to_string()])
            .arg("--snapshot-dir")
            .arg(home.path())
            // Nothing leaves this machine.
            .arg("--disable-llmobs-data-forwarding"),
    )
    .await;
    (server, format!("http://127.0.0.1:{otlp}"))
}

/// The LLM Observability envelopes the agent has got, and the headers they came with.
async fn envelopes(agent: &Server) -> (Vec<Json>, Vec<Json>) {
    let requests = client().get(format!("{}/test/session/requests", agent.url)).send().await;
    let requests: Vec<Json> = requests.expect("the agent answers").json().await.expect("requests");
    let (mut envelopes, mut headers) = (Vec::new(), Vec::new());
    for request in &requests {
        if !request["url"].as_str().is_some_and(|url| url.ends_with("/evp_proxy/v4/api/v2/llmobs")) {
            continue;
        }
        let body = request["body"].as_str().expect("a body");
        let body = base64::engine::general_purpose::STANDARD.decode(body).expect("base64");
        envelopes.extend(serde_json::from_slice::<Vec<Json>>(&body).expect("a list of envelopes"));
        headers.push(request["headers"].clone());
    }
    (envelopes, headers)
}

/// The decimal form of a hex span id.
fn decimal(hex: &str) -> String {
    u64::from_str_radix(hex, 16).expect("hex").to_string()
}

/// Each span of these requests is one event that says what was sent.
fn check(events: &[Json], sent: &[Sent]) {
    let event = |span: &str| {
        let mut found = events.iter().filter(|event| event["span_id"] == decimal(span));
        let event = found.next().unwrap_or_else(|| panic!("{span} did not arrive: {events:#?}"));
        assert!(found.next().is_none(), "{span} arrived twice");
        event
    };
    for (n, request) in sent.iter().enumerate() {
        let parent = event(&request.parent);
        assert_eq!(parent["trace_id"], *request.trace);
        assert_eq!(parent["parent_id"], "undefined");
        assert_eq!(parent["meta"]["span"]["kind"], "workflow");
        let event = event(&request.generation);
        assert_eq!(event["trace_id"], *request.trace);
        assert_eq!(event["parent_id"], decimal(&request.parent));
        assert_eq!(event["session_id"], format!("session-{n}"), "{event:#}");
        let meta = &event["meta"];
        assert_eq!(meta["span"]["kind"], "llm", "{event:#}");
        assert_eq!(meta["model_name"], ANSWERING_MODEL, "{event:#}");
        assert_eq!(meta["model_provider"], "openai", "{event:#}");
        let metric = |name: &str| event["metrics"][name].as_f64();
        assert_eq!(metric("input_tokens"), Some((INPUT_TOKENS + n as u64) as f64), "{event:#}");
        assert_eq!(metric("output_tokens"), Some(OUTPUT_TOKENS as f64), "{event:#}");
        assert_eq!(metric("total_cost"), Some(COST), "{event:#}");
        let tags = event["tags"].as_array().expect("tags");
        for tag in ["ml_app:shop", "service:shop", "user_id:ada", "error:0"] {
            assert!(tags.contains(&json!(tag)), "{tag}: {tags:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datadogs_agent_gets_what_its_sdk_would_send() {
    let home = Home::new(BINARY);
    let (agent, otlp) = agent(&home).await;
    home.config("");
    let gateway = home.start();
    let destination = |url: &str| {
        let config = json!({ "apiKey": KEY, "mlApp": "shop", "url": url });
        json!({ "type": "datadog", "name": "agent", "config": config })
    };
    let test = async |body: &Json| {
        let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(body)).await;
        test["data"].clone()
    };
    let good = destination(&format!("{}/evp_proxy/v4", agent.url));
    let report = test(&good).await;
    assert_eq!(report["ok"], true, "{report}");
    // The agent itself is no site of Datadog's.
    let report = test(&destination(&agent.url)).await;
    assert_eq!(report["diagnosis"], "not_found", "{report}");

    let id = gateway.destination(good).await;
    let sent = send(&gateway, "http", "app", CANARY, 3);
    gateway.settled(&id, 6).await;
    let (found, headers) = envelopes(&agent).await;
    let file = home.path().join("envelopes.json");
    std::fs::write(&file, Json::from(found.clone()).to_string()).expect("the file can be written");
    let file = file.to_str().expect("a path in letters");
    let types = run_json(&venv("datadog"), "datadog_events.py", &[file]);
    assert_eq!(types, json!({ "checked": 6, "wrong": [], "blind": [] }), "{types:#}");
    for headers in &headers {
        assert_eq!(headers["x-datadog-evp-subdomain"], "llmobs-intake", "{headers}");
        assert!(!headers.to_string().contains(KEY), "the agent has a key of its own: {headers}");
    }
    let events = |envelopes: &[Json]| -> Vec<Json> {
        envelopes
            .iter()
            .flat_map(|envelope| envelope["spans"].as_array().cloned().unwrap_or_default())
            .collect()
    };
    check(&events(&found), &sent);
    for request in &sent {
        let event = events(&found).into_iter().find(|event| event["span_id"] == decimal(&request.generation));
        let meta = event.expect("checked")["meta"].clone();
        assert_eq!(meta["input"]["messages"][0], json!({ "role": "user", "content": CANARY }));
        assert_eq!(meta["output"]["messages"][0]["content"], format!("answer to {CANARY}"));
    }

    let path = format!("/observability/destinations/{id}");
    let (status, answer) = gateway.api("PATCH", &path, Some(&json!({ "privacy_mode": true }))).await;
    assert_eq!(status, 200, "{answer}");
    let before = found.len();
    let sent = send(&gateway, "grpc", "app", CANARY, 2);
    gateway.settled(&id, 10).await;
    let private = envelopes(&agent).await.0.split_off(before);
    check(&events(&private), &sent);
    assert!(!Json::from(private.clone()).to_string().contains(CANARY), "the canary arrived: {private:#?}");
    let (status, _) = gateway.api("DELETE", &path, None).await;
    assert_eq!(status, 200);

    as_collector(&gateway, &otlp).await;
}

/// Spans as the agent has read them, in both encodings of OTLP: the same, and as they were sent.
async fn as_collector(gateway: &Gateway, otlp: &str) {
    let mut ids = Vec::new();
    for encoding in ["protobuf", "json"] {
        let config = json!({ "endpoint": otlp, "headers": { "x-tracecast-encoding": encoding } });
        ids.push(gateway.simple("otel-collector", encoding, config).await);
    }
    let sent = send(gateway, "http", "otlp", CANARY, 3);
    for id in &ids {
        gateway.settled(id, 6).await;
    }
    let requests = client().get(format!("{otlp}/test/session/requests")).send().await;
    let requests: Vec<Json> = requests.expect("the agent answers").json().await.expect("requests");
    let mut encodings: Vec<&str> = requests
        .iter()
        .filter(|request| request["url"].as_str().is_some_and(|url| url.ends_with("/v1/traces")))
        .map(|request| request["headers"]["Content-Type"].as_str().expect("a content type"))
        .collect();
    encodings.sort_unstable();
    assert_eq!(encodings, ["application/json", "application/x-protobuf"]);
    let traces = client().get(format!("{otlp}/test/session/traces")).send().await.expect("the agent answers");
    let traces: Vec<Json> = traces.json().await.expect("traces");
    assert_eq!(traces.len(), 2, "{traces:#?}");
    let (first, second) = (said(&traces[0]), said(&traces[1]));
    assert_eq!(first, second);

    assert_eq!(first.len(), 6, "{first:#?}");
    let span = |id: &str| first.iter().find(|span| span["span"] == *id).expect("it arrived");
    for (n, request) in sent.iter().enumerate() {
        assert_eq!(span(&request.parent)["trace"], *request.trace);
        let span = span(&request.generation);
        assert_eq!(span["trace"], *request.trace);
        assert_eq!(span["parent"], *request.parent);
        assert_eq!(span["resource"]["service.name"], "otlp");
        let attributes = &span["attributes"];
        assert_eq!(attributes["gen_ai.response.model"], ANSWERING_MODEL);
        assert_eq!(attributes["gen_ai.usage.input_tokens"], (INPUT_TOKENS + n as u64).to_string());
        assert_eq!(attributes["gen_ai.usage.cost"], COST);
        assert_eq!(attributes["input.value"], CANARY);
    }
}

/// What an export says, span by span. The agent keeps JSON as it came, and writes protobuf in the words of protobuf's
/// own JSON: other keys, ids in base64.
fn said(export: &Json) -> Vec<Json> {
    fn field<'a>(of: &'a Json, name: &str) -> &'a Json {
        let camel = |(i, part): (usize, &str)| match part.split_at_checked(1) {
            Some((first, rest)) if i > 0 => first.to_uppercase() + rest,
            _ => part.to_owned(),
        };
        let other: String = name.split('_').enumerate().map(camel).collect();
        of.get(name).unwrap_or_else(|| &of[other])
    }
    let list = |of: &Json, name: &str| field(of, name).as_array().cloned().unwrap_or_default();
    let attributes = |of: &Json| -> serde_json::Map<String, Json> {
        let pair = |attribute: &Json| {
            let value = attribute["value"].as_object().and_then(|value| value.values().next());
            (attribute["key"].as_str().unwrap_or_default().to_owned(), value.cloned().unwrap_or_default())
        };
        list(of, "attributes").iter().map(pair).collect()
    };
    let id = |of: &Json, name: &str| {
        let text = field(of, name).as_str().unwrap_or_default();
        match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(bytes) if text.ends_with('=') => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            _ => text.to_owned(),
        }
    };
    let mut out = Vec::new();
    for resource in list(export, "resource_spans") {
        for scope in list(&resource, "scope_spans") {
            for span in list(&scope, "spans") {
                out.push(json!({
                    "resource": attributes(&resource["resource"]), "scope": scope["scope"], "name": span["name"],
                    "trace": id(&span, "trace_id"), "span": id(&span, "span_id"),
                    "parent": id(&span, "parent_span_id"), "start": field(&span, "start_time_unix_nano"),
                    "end": field(&span, "end_time_unix_nano"), "attributes": attributes(&span),
                }));
            }
        }
    }
    out
}
