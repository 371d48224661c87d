//! What became of one event: looked up, waited for, and watched as it comes; and the log looked at from outside.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_tests::fakes::Fake;
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, MANAGEMENT_KEY, PATIENCE};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;
use crate::clients::{Person, stderr, stdout};

async fn answering(status: u16) -> Fake {
    Fake::start(Box::new(move |_, _| (status, "application/json", b"{}".to_vec()))).await
}

/// The trace of `generation(n, _)`.
fn trace(n: u64) -> String {
    format!("7777777777777777{n:016x}")
}

async fn look_up(gateway: &Gateway, trace: &str) -> Json {
    let (status, body) = gateway.api("GET", &format!("/observability/events/{trace}"), None).await;
    assert_eq!(status, 200, "{body}");
    body["data"].clone()
}

fn at<'a>(event: &'a Json, name: &str) -> &'a Json {
    let all = event["destinations"].as_array().expect("destinations");
    all.iter().find(|d| d["name"] == name).unwrap_or_else(|| panic!("{name}: {event:#}"))
}

/// Looks the trace up until it is in these states.
async fn in_states(gateway: &Gateway, trace: &str, states: &[(&str, &str)]) -> Json {
    let started = Instant::now();
    loop {
        let event = look_up(gateway, trace).await;
        let all = event["destinations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is = |name: &str, state: &str| all.iter().any(|d| d["name"] == name && d["state"] == state);
        if states.iter().all(|(name, state)| is(name, state)) {
            return event;
        }
        assert!(started.elapsed() < PATIENCE, "{event:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A destination each that takes, refuses for good, is down, has another model in its filter, is off.
async fn five(gateway: &Gateway, fakes: &[Fake; 3]) {
    let endpoint = |fake: &Fake| json!({ "endpoint": fake.url() });
    gateway.simple("otel-collector", "taking", endpoint(&fakes[0])).await;
    gateway.simple("otel-collector", "refusing", endpoint(&fakes[1])).await;
    gateway.simple("otel-collector", "failing", endpoint(&fakes[2])).await;
    let rules =
        json!({ "groups": [{ "rules": [{ "field": "model", "operator": "equals", "value": "another" }] }] });
    let body = |name: &str, more: Json| {
        let mut body = json!({ "type": "otel-collector", "name": name, "config": endpoint(&fakes[0]) });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    gateway.destination(body("filtering", json!({ "filter_rules": rules }))).await;
    gateway.destination(body("off", json!({ "enabled": false }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_looked_up_at_every_destination_also_after_a_restart() {
    let fakes = [answering(200).await, answering(400).await, answering(503).await];
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    five(&gateway, &fakes).await;
    // Begun after the gateway, so that nothing of it can be unknown.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let mut span = generation(1, "x");
    span.start_unix_nano = now.as_nanos() as u64;
    span.end_unix_nano = span.start_unix_nano + 1;
    assert_eq!(gateway.send(request(&[span, generation(2, "x")])).await.0, 200);
    let states = [
        ("taking", "delivered"),
        ("refusing", "dead_lettered"),
        ("filtering", "skipped"),
        ("off", "skipped"),
    ];
    let event = in_states(&gateway, &trace(1), &states).await;
    assert_eq!(at(&event, "filtering")["skipped"], json!({ "filter": 1 }));
    assert_eq!(at(&event, "off")["skipped"], json!({ "disabled": 1 }));
    assert!(at(&event, "taking")["latency_ms"].as_f64().expect("a latency") > 0.0);
    assert_eq!(at(&event, "refusing")["dead_lettered"], json!({ "rejected": 1 }));
    assert_eq!(at(&event, "refusing")["last_error"]["status"], 400);
    let started = Instant::now();
    loop {
        let event = look_up(&gateway, &trace(1)).await;
        let failing = at(&event, "failing");
        // In flight for moments only.
        if failing["state"] == "pending" && failing["last_error"]["status"] == 503 {
            assert!(failing["attempts"].as_u64() >= Some(1), "{failing}");
            assert_eq!(event["complete"], true, "{event:#}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{event:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let unknown = look_up(&gateway, &"ab".repeat(16)).await;
    assert_eq!((&unknown["complete"], &unknown["destinations"]), (&json!(false), &json!([])));

    // What the memory has lost, the log and the dead letters know: what is pending, what was refused.
    gateway.kill();
    let gateway = home.start();
    let event = look_up(&gateway, &trace(2)).await;
    assert_eq!(event["complete"], false, "{event:#}");
    assert_eq!(at(&event, "failing")["state"], "pending");
    assert_eq!(at(&event, "refusing")["state"], "dead_lettered");
    assert_eq!(at(&event, "refusing")["last_error"]["status"], 400);
    assert_eq!(at(&event, "taking")["state"], "unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn send_and_wait_says_what_became_of_it() {
    let fakes = [answering(200).await, answering(400).await, answering(503).await];
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let endpoint = json!({ "endpoint": fakes[0].url() });
    let taking = gateway.simple("otel-collector", "taking", endpoint.clone()).await;
    let rules =
        json!({ "groups": [{ "rules": [{ "field": "model", "operator": "equals", "value": "another" }] }] });
    let filtering =
        json!({ "type": "otel-collector", "name": "filtering", "config": endpoint, "filter_rules": rules });
    gateway.destination(filtering).await;
    let me = Person::new(&home, &gateway);
    let send = ["send", "--target", &gateway.http, "--key", INGEST_KEY, "--wait"];
    let told = me.told(&send).await;
    let row = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert!(row(&told, "taking").contains("delivered in "), "{told}");
    let skipped = row(&told, "filtering");
    assert!(
        skipped.contains("skipped (filter)") && skipped.contains("model equals \"another\" is false"),
        "{told}"
    );
    let shown = me.told(&[&send[..], &["--json"]].concat()).await;
    let body: Json = serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {shown}"));
    assert_eq!(at(&body["data"], "taking")["state"], "delivered");

    gateway.simple("otel-collector", "refusing", json!({ "endpoint": fakes[1].url() })).await;
    let (code, told, _) = me.refused(&send).await;
    assert_eq!(code, Some(1));
    assert!(
        row(&told, "refusing").contains("dead letters") && row(&told, "refusing").contains("400"),
        "{told}"
    );
    assert!(row(&told, "taking").contains("delivered"), "{told}");

    // Nowhere to go is an answer, too; so is a wrong key.
    for id in [&taking] {
        gateway.api("DELETE", &format!("/observability/destinations/{id}"), None).await;
    }
    let output =
        me.run_with(&send, &[("TRACECAST_MANAGEMENT_KEY", "not-the-key-not-the-key-not-the-key")]).await;
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
    let (code, _, said) = me.refused(&["send", "--target", "http://127.0.0.1:9", "--wait"]).await;
    assert_eq!(code, Some(69), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_shows_events_as_they_come_without_their_content() {
    let fakes = [answering(200).await, answering(200).await, answering(200).await];
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    five(&gateway, &fakes).await;
    let follow = |arguments: &[&str]| {
        let mut command = home.command(&[&["tail"], arguments].concat());
        command.env("TRACECAST_ADMIN_URL", &gateway.admin).env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
        assert_eq!(said.next().expect("a line").expect("text"), "waiting for events");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        (child, lines)
    };
    let (mut one, mut all) = follow(&[]);
    let (mut two, mut skipped) = follow(&["--destination", "filtering", "--skipped", "--json"]);
    assert_eq!(gateway.send(request(&[generation(1, "a secret prompt")])).await.0, 200);
    let line = all.next().expect("a line").expect("text");
    for part in ["gpt-4o", "40/12 tokens", "$0.001250", "taking", "filtering (filter)", "off (disabled)"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let line = skipped.next().expect("a line").expect("text");
    let event: Json = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&event["trace_id"], &event["model"]), (&json!(trace(1)), &json!("gpt-4o")));
    assert!(!line.contains("secret"), "{line}");
    for child in [&mut one, &mut two] {
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    // A tail does not keep the gateway from stopping.
    let (mut three, _lines) = follow(&[]);
    assert_eq!(gateway.stop(), 0);
    assert_eq!(three.wait().expect("it ends").code(), Some(69));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_stopped_gateway_is_inspected_and_its_damage_seen() {
    let fake = answering(503).await;
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let id = gateway.simple("otel-collector", "down", json!({ "endpoint": fake.url() })).await;
    for n in 0..3 {
        assert_eq!(gateway.send(request(&[generation(n, "kept on disk")])).await.0, 200);
    }
    let log = |arguments: &[&str]| {
        let output = home.command(&[&["log"], arguments, &["--data-dir", "data"]].concat()).output();
        output.expect("the program can be run")
    };
    // Also while it runs.
    assert_eq!(log(&["verify"]).status.code(), Some(0));
    assert_eq!(gateway.stop(), 0);
    let list = stdout(&log(&["ls"]));
    assert!(list.starts_with("FILE") && list.contains("sealed"), "{list}");
    let records = stdout(&log(&["cat"]));
    assert_eq!(records.lines().count(), 4, "{records}");
    assert!(records.lines().skip(1).all(|line| line.contains(&id)), "{records}");
    let first: Json =
        serde_json::from_str(stdout(&log(&["cat", "--json"])).lines().next().expect("a line")).expect("JSON");
    let shown = stdout(&log(&["cat", "--sequence", &first["sequence"].to_string()]));
    assert!(shown.contains("resourceSpans") && shown.contains("kept on disk"), "{shown}");
    let exported = stdout(&log(&["export"]));
    assert_eq!(exported.lines().count(), 3);
    for line in exported.lines() {
        let body: Json = serde_json::from_str(line).expect("a line is a request");
        assert!(body["resourceSpans"].is_array(), "{body}");
    }
    let report: Json = serde_json::from_str(&stdout(&log(&["verify", "--json"]))).expect("JSON");
    assert_eq!((&report["records"], &report["problems"]), (&json!(3), &json!([])), "{report}");

    // One flipped bit in a prompt.
    let segments = std::fs::read_dir(home.path().join("data/log/segments")).expect("segments");
    for path in segments.map(|entry| entry.expect("an entry").path()) {
        let mut bytes = std::fs::read(&path).expect("a segment");
        if let Some(at) = bytes.windows(12).position(|w| w == b"kept on disk") {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("it can be written");
        }
    }
    let damaged = log(&["verify"]);
    assert_eq!(damaged.status.code(), Some(1), "{}", stderr(&damaged));
    assert!(stdout(&damaged).contains("damaged"), "{}", stdout(&damaged));
    let nothing = home.command(&["log", "ls", "--data-dir", "elsewhere"]).output().expect("it runs");
    assert_eq!(nothing.status.code(), Some(74));
}
