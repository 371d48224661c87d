//! An S3 server (s3s-fs, signatures enforced) behind `s3`: the objects it holds.

use std::path::{Path, PathBuf};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use serde_json::{Value as Json, json};
use tracecast_tests::process::Home;

use crate::sdks::{BINARY, send};

const CANARY: &str = "canary-prompt-c3d9";

/// Serves `root` as an S3 endpoint; every sub-directory is a bucket.
async fn s3(root: &Path) -> String {
    std::fs::create_dir_all(root.join("traces")).expect("the bucket can be made");
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("the file system"));
    builder.set_auth(SimpleAuth::from_single("AKIATESTS", "secret-of-tests"));
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

fn config(url: &str, secret: &str, layout: &str) -> Json {
    json!({
        "bucketName": "traces", "endpoint": url, "provider": "other", "region": "us-east-1",
        "accessKeyId": "AKIATESTS", "secretAccessKey": secret, "prefix": layout, "objectLayout": layout,
    })
}

/// Every object below a directory.
fn objects(directory: &Path) -> Vec<PathBuf> {
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

#[tokio::test(flavor = "multi_thread")]
async fn s3_holds_an_object_a_trace_and_batches() {
    let home = Home::new(BINARY);
    let root = home.path().join("s3");
    let url = s3(&root).await;
    home.config("");
    let gateway = home.start();
    let create = |layout: &str, secret: &str| {
        json!({ "type": "s3", "name": layout, "config": config(&url, secret, layout) })
    };
    let good = create("per_trace", "secret-of-tests");
    let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&good)).await;
    assert_eq!(test["data"]["ok"], true, "{test}");
    let wrong = create("per_trace", "another-secret");
    let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&wrong)).await;
    assert_eq!(test["data"]["diagnosis"], "auth", "{test}");

    let per_trace = gateway.destination(good).await;
    let jsonl = gateway.destination(create("jsonl", "secret-of-tests")).await;
    let mut private = create("private", "secret-of-tests");
    private["privacy_mode"] = json!(true);
    private["config"]["objectLayout"] = json!("per_trace");
    let private = gateway.destination(private).await;
    let sent = send(&gateway, "http", "s3", CANARY, 3);
    for id in [&per_trace, &jsonl, &private] {
        gateway.settled(id, 6).await;
    }

    let read = |path: &PathBuf| -> Json {
        serde_json::from_slice(&std::fs::read(path).expect("the object can be read")).expect("it is JSON")
    };
    let traces = objects(&root.join("traces/per_trace"));
    assert_eq!(traces.len(), 3, "{traces:?}");
    for path in &traces {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let object = read(path);
        let id = object["id"].as_str().expect("an id");
        assert!(name.starts_with(id) && name.ends_with(".json"), "{name}");
        let observations = object["observations"].as_array().expect("observations");
        assert_eq!(observations.len(), 2, "{object:#}");
        for o in observations {
            assert!(sent.iter().any(|(trace, span)| trace == id && o["id"] == **span), "{o:#}");
        }
        let generation = observations.iter().find(|o| o["model"] == "gpt-4o").expect("a generation");
        assert_eq!(generation["completionTokens"], 12, "{generation:#}");
        assert_eq!(generation["totalCost"], 0.00125, "{generation:#}");
        assert!(generation["input"].to_string().contains(CANARY), "{generation:#}");
    }

    let mut lines = 0;
    for path in objects(&root.join("traces/jsonl")) {
        let bytes = std::fs::read(&path).expect("the object can be read");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut text)
            .expect("the object is gzip");
        for line in text.lines() {
            let _: Json = serde_json::from_str(line).expect("a line is JSON");
            lines += 1;
        }
    }
    assert!(lines >= 3, "{lines} lines for 3 traces");

    let private = objects(&root.join("traces/private"));
    assert_eq!(private.len(), 3);
    for path in &private {
        let object = read(path);
        assert!(!object.to_string().contains(CANARY), "the canary was stored: {object:#}");
        assert!(object.to_string().contains("gpt-4o"), "{object:#}");
    }
}
