//! An S3 server (s3s-fs, signatures enforced) behind `s3`: the objects it holds.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use serde_json::{Value as Json, json};
use tracecast_tests::process::Home;

use crate::sdks::{ANSWERING_MODEL, BINARY, COST, INPUT_TOKENS, MODEL, OUTPUT_TOKENS, Sent, send};

const CANARY: &str = "canary-prompt-c3d9";
const KEY_ID: &str = "AKIATESTS";
pub(crate) const SECRET: &str = "secret-of-tests";

/// Serves `root` as an S3 endpoint with the bucket `traces`.
pub(crate) async fn serve(root: &Path) -> String {
    std::fs::create_dir_all(root.join("traces")).expect("the bucket can be made");
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("the file system"));
    builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    url
}

/// A destination config; its objects go below the layout's name.
pub(crate) fn config(url: &str, secret: &str, layout: &str) -> Json {
    json!({
        "bucketName": "traces", "endpoint": url, "provider": "other", "region": "us-east-1",
        "accessKeyId": KEY_ID, "secretAccessKey": secret, "prefix": layout, "objectLayout": layout,
    })
}

/// Every object below a directory.
pub(crate) fn objects(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(objects(&path));
        } else if !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            found.push(path);
        }
    }
    found
}

/// A stored object.
pub(crate) fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).expect("the object can be read")).expect("it is JSON")
}

/// The objects of a gzip NDJSON object, which must be one gzip member.
fn read_lines(path: &Path) -> Vec<Json> {
    let bytes = std::fs::read(path).expect("the object can be read");
    let mut decoder = flate2::bufread::GzDecoder::new(&bytes[..]);
    let mut text = String::new();
    decoder.read_to_string(&mut text).expect("the object is gzip");
    assert!(decoder.into_inner().is_empty(), "more than one gzip member");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Each trace that was sent is stored once, whole and as it was.
pub(crate) fn check(traces: &[Json], sent: &[Sent]) {
    assert_eq!(traces.len(), sent.len(), "{traces:#?}");
    for (n, request) in sent.iter().enumerate() {
        let trace = traces.iter().find(|t| t["id"] == *request.trace);
        let trace = trace.unwrap_or_else(|| panic!("{} is not stored", request.trace));
        assert_eq!(trace["userId"], "ada", "{trace:#}");
        assert_eq!(trace["sessionId"], format!("session-{n}"), "{trace:#}");
        assert_eq!(trace["totalCost"], COST, "{trace:#}");
        let observations = trace["observations"].as_array().expect("observations");
        assert_eq!(observations.len(), 2, "{trace:#}");
        assert!(observations.iter().any(|o| o["id"] == *request.parent), "{trace:#}");
        let found = observations.iter().find(|o| o["id"] == *request.generation).expect("the generation");
        assert_eq!(found["parentObservationId"], *request.parent, "{found:#}");
        assert_eq!(found["type"], "GENERATION", "{found:#}");
        assert_eq!(found["model"], ANSWERING_MODEL, "{found:#}");
        assert_eq!(found["requestModel"], MODEL, "{found:#}");
        assert_eq!(found["provider"], "openai", "{found:#}");
        assert_eq!(found["promptTokens"], INPUT_TOKENS + n as u64, "{found:#}");
        assert_eq!(found["completionTokens"], OUTPUT_TOKENS, "{found:#}");
        assert_eq!(found["totalCost"], COST, "{found:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_holds_an_object_a_trace_and_batches() {
    let home = Home::new(BINARY);
    let root = home.path().join("s3");
    let url = serve(&root).await;
    home.config("");
    let gateway = home.start();
    let create = |layout: &str, secret: &str| json!({ "type": "s3", "name": layout, "config": config(&url, secret, layout) });
    let good = create("per_trace", SECRET);
    let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&good)).await;
    assert_eq!(test["data"]["ok"], true, "{test}");
    let wrong = create("per_trace", "another-secret");
    let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&wrong)).await;
    assert_eq!(test["data"]["diagnosis"], "auth", "{test}");

    let per_trace = gateway.destination(good).await;
    let jsonl = gateway.destination(create("jsonl", SECRET)).await;
    let mut private = create("private", SECRET);
    private["privacy_mode"] = json!(true);
    private["config"]["objectLayout"] = json!("per_trace");
    let private = gateway.destination(private).await;
    let sent = send(&gateway, "http", "s3", CANARY, 3);
    for id in [&per_trace, &jsonl, &private] {
        gateway.settled(id, 6).await;
    }

    let paths = objects(&root.join("traces/per_trace"));
    for path in &paths {
        let name = path.file_name().expect("a name").to_string_lossy();
        let id = read(path)["id"].as_str().expect("an id").to_owned();
        assert!(name.starts_with(&id) && name.ends_with(".json"), "{name}");
    }
    let open: Vec<Json> = paths.iter().map(|path| read(path)).collect();
    let paths = objects(&root.join("traces/jsonl"));
    assert!(paths.iter().all(|p| p.to_string_lossy().ends_with(".jsonl.gz")), "{paths:?}");
    let lines: Vec<Json> = paths.iter().flat_map(|path| read_lines(path)).collect();
    for traces in [&open, &lines] {
        check(traces, &sent);
        for trace in traces {
            assert!(trace["input"].to_string().contains(CANARY), "{trace:#}");
            assert!(trace["output"].to_string().contains("answer to"), "{trace:#}");
        }
    }

    let private: Vec<Json> = objects(&root.join("traces/private")).iter().map(|path| read(path)).collect();
    check(&private, &sent);
    assert!(!private.iter().any(|t| t.to_string().contains(CANARY)), "the canary was stored: {private:#?}");
}
