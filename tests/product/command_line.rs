//! Commands, exit codes, and what a person reads on the terminal.

use std::process::Output;

use serde_json::json;
use tracecast_tests::process::{Home, MANAGEMENT_KEY};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

fn run(home: &Home, arguments: &[&str]) -> Output {
    home.command(arguments).output().expect("the program can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_tells_every_mistake_with_its_line_and_opens_no_port() {
    let home = Home::new(BINARY);
    let bad = "ingest:\n  htttp: 127.0.0.1:1\nlog: { durability: never }\ndestinations:\n  - { type: datadog, name: d }\n";
    std::fs::write(home.path().join("bad.yaml"), bad).expect("a file");
    let output = run(&home, &["check", "--config", "bad.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    let stderr = text(&output.stderr);
    for part in [
        "bad.yaml:2:",
        "ingest.htttp",
        "bad.yaml:3:",
        "log.durability",
        "bad.yaml:5:",
        "destinations[0].config",
    ] {
        assert!(stderr.contains(part), "{part} is missing in:\n{stderr}");
    }
    let output = run(&home, &["check", "--config", "no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("no-such-file.yaml"));
    assert_eq!(run(&home, &["serve", "--nonsense"]).status.code(), Some(64));
    assert_eq!(run(&home, &["--version"]).status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_files_are_valid_and_run() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the config folder") {
        let path = entry.expect("an entry").path();
        seen += 1;
        let home = Home::new(BINARY);
        let environment = [
            ("LANGFUSE_PUBLIC_KEY", "pk-lf-tests"),
            ("LANGFUSE_SECRET_KEY", "sk-lf-tests"),
            ("LLM_GATEWAY_KEY", "sk-tc-v1-gateway"),
            ("AWS_ACCESS_KEY_ID", "AKIATESTS"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("TRACECAST_DATA_DIR", "./data"),
        ];
        let path = path.to_str().expect("a readable name");
        let mut check = home.command(&["check", "--config", path]);
        let output = check.envs(environment).output().expect("the program can be run");
        assert_eq!(output.status.code(), Some(0), "{path}: {}", text(&output.stderr));
        let mut serve = home.command(&["serve", "--config", path]);
        serve.envs(environment).env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY);
        for key in ["INGEST__HTTP", "INGEST__GRPC", "ADMIN__LISTEN"] {
            serve.env(format!("TRACECAST__{key}"), "127.0.0.1:0");
        }
        let gateway = home.spawn(serve);
        let (status, list) = gateway.api("GET", "/observability/destinations", None).await;
        assert_eq!(status, 200, "{list}");
        assert!(list["total_count"].as_u64() >= Some(1), "{path}: {list}");
        assert_eq!(list["data"][0]["managed_by"], "file");
        assert_eq!(gateway.stop(), 0, "{path}");
    }
    assert!(seen >= 2, "{seen} example files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_and_a_locked_directory_end_the_start_with_74() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let port = gateway.http.rsplit(':').next().expect("a port").to_owned();
    let other = Home::new(BINARY);
    std::fs::write(
        other.path().join("config.yaml"),
        format!(
            "ingest: {{ http: 127.0.0.1:{port}, grpc: 127.0.0.1:0 }}\nadmin: {{ listen: 127.0.0.1:0 }}\n"
        ),
    )
    .expect("a file");
    let output = run(&other, &["serve", "--config", "config.yaml"]);
    assert_eq!(output.status.code(), Some(74));
    let stderr = text(&output.stderr);
    assert!(stderr.contains(&port) && stderr.contains("ingest.http"), "{stderr}");
    assert!(!other.path().join("tracecast-data").exists(), "nothing is half started");

    // Whoever holds the lock and does not speak to successors is not the gateway.
    assert_eq!(gateway.stop(), 0);
    let lock = std::fs::File::open(home.path().join("data/log/lock")).expect("the lock file");
    lock.try_lock().expect("the lock is free");
    let output = run(&home, &["serve", "--config", "config.yaml"]);
    assert_eq!(output.status.code(), Some(74), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("lock"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_prints_one_management_key_and_hints() {
    let home = Home::new(BINARY);
    let plain = "ingest: { http: 127.0.0.1:0, grpc: 127.0.0.1:0 }\nadmin: { listen: 127.0.0.1:0 }\ndata_dir: ./data\n";
    std::fs::write(home.path().join("config.yaml"), plain).expect("a file");
    let gateway = home.spawn(home.command(&["serve", "--config", "config.yaml"]));
    let client = reqwest::Client::new();
    // The line is written before the listeners are announced, so it is there by now.
    let stderr = home.stderr();
    let key = stderr
        .lines()
        .find_map(|l| l.strip_prefix("export TRACECAST_MANAGEMENT_KEY="))
        .unwrap_or_else(|| panic!("no key in:\n{stderr}"))
        .to_owned();
    let list = |key: String| {
        client.get(format!("{}/api/v1/observability/destinations", gateway.admin)).bearer_auth(key).send()
    };
    assert_eq!(list(key.clone()).await.expect("an answer").status(), 200);
    assert_eq!(list("sk-tc-mgmt-wrong".into()).await.expect("an answer").status(), 401);
    let wait = std::time::Instant::now();
    while !(home.stderr().contains("no destination") && home.stderr().contains("no ingest key")) {
        assert!(wait.elapsed() < tracecast_tests::process::PATIENCE, "no hints:\n{}", home.stderr());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(gateway.stop(), 0);
    let again = home.spawn(home.command(&["serve", "--config", "config.yaml"]));
    assert_eq!(home.stderr().matches("export TRACECAST_MANAGEMENT_KEY=").count(), 1, "printed once");
    let status = client
        .get(format!("{}/api/v1/observability/destinations", again.admin))
        .bearer_auth(key)
        .send()
        .await
        .expect("an answer")
        .status();
    assert_eq!(status, 200, "the key outlives the restart");
}

#[test]
fn the_demo_balances_and_is_plain_when_piped() {
    let home = Home::new(BINARY);
    let output = run(&home, &["demo"]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{}", text(&output.stderr));
    assert!(stdout.contains("books balance:"), "{stdout}");
    assert!(!stdout.contains('\x1b'), "no colours in a pipe");
    for kind in ["langfuse", "otel-collector", "webhook", "s3", "clickhouse"] {
        assert!(stdout.contains(kind), "{kind} is missing in:\n{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_and_sink_agree_on_every_id() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let options = tracecast_loadkit::sink::Options::default();
    let sink =
        tracecast_loadkit::sink::Sink::start(([127, 0, 0, 1], 0).into(), options).await.expect("a sink");
    let url = format!("http://{}", sink.address());
    gateway.simple("otel-collector", "sink", json!({ "endpoint": url })).await;
    let arguments = [
        "load",
        "--target",
        &gateway.http,
        "--key",
        tracecast_tests::process::INGEST_KEY,
        "--spans",
        "2000",
        "--body-bytes",
        "200",
        "--acked",
        "acked.txt",
        "--verify",
        &url,
        "--json",
    ];
    let mut command = home.command(&arguments);
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("it runs");
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["acknowledged_spans"], 2000, "{report:#}");
    assert_eq!(report["verified"][0]["missing"], 0, "{report:#}");
    let acked = std::fs::read_to_string(home.path().join("acked.txt")).expect("the file of ids");
    let acked: std::collections::HashSet<&str> = acked.lines().collect();
    let arrived: std::collections::HashSet<String> =
        sink.ids().iter().map(|i| tracecast_otlp::hex(i)).collect();
    assert_eq!(acked.len(), 2000);
    assert!(acked.iter().all(|id| arrived.contains(*id)));

    let mut nobody =
        home.command(&["load", "--target", "http://127.0.0.1:9", "--spans", "10", "--duration", "5"]);
    let output =
        tokio::task::spawn_blocking(move || nobody.output()).await.expect("it ends").expect("it runs");
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_the_wrong_listener_is_told_the_right_one() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let (status, body) = gateway.post("/api/v1/keys", &[], Vec::new()).await;
    assert_eq!(status, 404);
    let admin = gateway.admin.trim_start_matches("http://").to_owned();
    assert!(text(&body).contains(&admin), "{}", text(&body));
    let response = reqwest::Client::new()
        .post(format!("{}/v1/traces", gateway.admin))
        .body(request(&[generation(1, "x")]))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 404);
    let body: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(body["error"]["code"], 404, "{body}");
    let on_grpc = reqwest::get(format!("http://{}/v1/traces", gateway.grpc)).await.expect("an answer");
    assert_eq!(on_grpc.status(), 415);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let response = reqwest::get(format!("{}{path}", gateway.admin)).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path} needs no key");
    }
}
