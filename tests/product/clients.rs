//! The thin clients: everything a person does with the gateway, by the command line alone.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::{Gateway, Home, INGEST_KEY, MANAGEMENT_KEY, PATIENCE};

use crate::BINARY;

/// A person at a terminal, with the key of one gateway.
pub(crate) struct Person<'a> {
    home: &'a Home,
    admin: String,
}

impl Person<'_> {
    pub(crate) fn new<'a>(home: &'a Home, gateway: &Gateway) -> Person<'a> {
        Person { home, admin: gateway.admin.clone() }
    }

    pub(crate) async fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.home.command(arguments);
        command.env("TRACECAST_ADMIN_URL", &self.admin).env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY);
        command.envs(environment.iter().copied());
        tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("it ends")
            .expect("the program can be run")
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[]).await
    }

    /// What the command writes to stdout; it must end with 0.
    pub(crate) async fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Code, stdout and stderr of a command that is expected to fail.
    pub(crate) async fn refused(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.run(arguments).await;
        (output.status.code(), stdout(&output), stderr(&output))
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The value in a list of names and values.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("{name} is missing in:\n{text}"))[name.len()..].trim()
}

async fn sink() -> (Sink, String) {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let url = format!("http://{}", sink.address());
    (sink, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_created_tested_sent_to_watched_and_deleted_with_the_command_line_alone() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let me = Person::new(&home, &gateway);
    let (sink, url) = sink().await;

    let key = me.told(&["key", "create", "--name", "my app"]).await;
    let secret = value(&key, "key").to_owned();
    assert!(secret.starts_with("sk-tc-v1-"), "{key}");

    let endpoint = format!("endpoint={url}");
    let arguments = [
        "destination",
        "create",
        "--type",
        "otel-collector",
        "--name",
        "my collector",
        "--set",
        &endpoint,
        "--set",
        "headers.x-team=web",
        "--secret",
        "headers.authorization=COLLECTOR_AUTH",
        "--privacy",
    ];
    let output = me.run_with(&arguments, &[("COLLECTOR_AUTH", "Bearer very-secret-token")]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let created = stdout(&output);
    let id = value(&created, "id").to_owned();
    assert_eq!(value(&created, "privacy_mode"), "yes");
    assert!(!created.contains("very-secret-token"), "{created}");

    let list = me.told(&["destination", "list"]).await;
    let mut lines = list.lines();
    assert!(lines.next().is_some_and(|heading| heading.starts_with("ID")), "{list}");
    let row = lines.next().expect("a row");
    assert!(row.starts_with(&id) && row.contains("otel-collector  my collector  healthy"), "{list}");

    let tested = me.told(&["destination", "test", "my collector"]).await;
    assert_eq!((value(&tested, "ok"), value(&tested, "diagnosis")), ("yes", "ok"));

    let trace = me.told(&["send", "--target", &gateway.http, "--key", &secret, "--model", "gpt-test"]).await;
    let trace = trace.trim();
    assert!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()), "{trace}");
    let started = Instant::now();
    let watched = loop {
        let stats = me.told(&["stats", "my collector"]).await;
        if value(&stats, "delivered") == "1" {
            break stats;
        }
        assert!(started.elapsed() < PATIENCE, "{stats}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((value(&watched, "accepted"), value(&watched, "pending")), ("1", "0"));
    assert_eq!(sink.stats().distinct_ids, 1);
    assert_eq!(sink.stats().spans_with_content, 0, "the destination is private");
    let all = me.told(&["stats"]).await;
    assert!(all.starts_with("accepted 1, rejected 0, log "), "{all}");
    assert!(all.contains("my collector"), "{all}");

    let paused = me.told(&["destination", "pause", "my collector"]).await;
    assert!(paused.contains("paused"), "{paused}");
    let resumed = me.told(&["destination", "resume", &id]).await;
    assert!(resumed.contains("healthy"), "{resumed}");
    let updated = me
        .told(&[
            "destination",
            "update",
            "my collector",
            "--name",
            "ours",
            "--sampling-rate",
            "0.5",
            "--unset",
            "headers.x-team",
        ])
        .await;
    assert_eq!((value(&updated, "name"), value(&updated, "sampling_rate")), ("ours", "0.5"));
    assert!(!updated.contains("x-team") && updated.contains("config.headers.authorization"), "{updated}");
    let other = me.told(&["destination", "update", "ours", "--set", "headers.x-other=1"]).await;
    assert!(other.contains("config.headers.authorization"), "one header leaves the others: {other}");

    let shown = me.told(&["destination", "show", "ours"]).await;
    assert_eq!(value(&shown, "config.endpoint"), url);
    assert_eq!(me.told(&["destination", "delete", "ours"]).await, "", "messages go to stderr");
    assert_eq!(me.told(&["destination", "list"]).await, "");
    assert_eq!(me.refused(&["destination", "show", &id]).await.0, Some(64));

    assert_eq!(me.told(&["key", "delete", "my app"]).await, "");
    let output = me.run(&["send", "--target", &gateway.http, "--key", &secret]).await;
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_what_is_wrong() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let me = Person::new(&home, &gateway);

    let list = ["destination", "list"];
    let wrong = me.run_with(&list, &[("TRACECAST_MANAGEMENT_KEY", "sk-tc-mgmt-wrong")]).await;
    assert_eq!(wrong.status.code(), Some(77), "{}", stderr(&wrong));
    let ordinary = me.run_with(&list, &[("TRACECAST_MANAGEMENT_KEY", INGEST_KEY)]).await;
    assert_eq!(ordinary.status.code(), Some(77), "{}", stderr(&ordinary));
    assert!(!stderr(&ordinary).contains(INGEST_KEY));

    let (code, _, message) = me.refused(&["stats", "--admin", "http://127.0.0.1:9"]).await;
    assert_eq!(code, Some(69), "{message}");
    assert!(message.contains("http://127.0.0.1:9"), "{message}");
    let (code, _, message) = me.refused(&["send", "--target", "http://127.0.0.1:9"]).await;
    assert_eq!(code, Some(69), "{message}");
    let (code, _, message) = me.refused(&["stats", "--admin", "127.0.0.1:4320"]).await;
    assert_eq!(code, Some(64), "{message}");
    let (code, _, message) = me.refused(&["stats", "--admin", &gateway.http]).await;
    assert_eq!(code, Some(64), "{message}");
    assert!(
        message.contains(gateway.admin.trim_start_matches("http://")),
        "names the admin listener: {message}"
    );

    let mut keyless = home.command(&["stats", "--admin", &gateway.admin]);
    let output = tokio::task::spawn_blocking(move || keyless.output()).await.expect("it ends").expect("runs");
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("TRACECAST_MANAGEMENT_KEY"), "{}", stderr(&output));
    std::fs::write(home.path().join("key"), format!("{MANAGEMENT_KEY}\n")).expect("a file");
    let mut from_file = home.command(&["stats", "--admin", &gateway.admin]);
    from_file.env("TRACECAST_MANAGEMENT_KEY_FILE", "key");
    let output =
        tokio::task::spawn_blocking(move || from_file.output()).await.expect("it ends").expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let create = ["destination", "create", "--type", "webhook", "--name"];
    let dead = [&create[..], &["dead", "--set", "url=http://127.0.0.1:9/x"]].concat();
    me.told(&dead).await;
    let output = me.run(&["destination", "test", "dead"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!((value(&stdout(&output), "ok"), value(&stdout(&output), "diagnosis")), ("no", "connect"));
    assert!(!value(&stdout(&output), "hint").is_empty());
    let (code, out, message) = me.refused(&[&dead[..], &["--test"]].concat()).await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{message}");
    assert!(message.contains("connect"), "{message}");

    // Every issue of a body on its own line, with path and hint.
    let bad = [&create[..], &["bad", "--set", "url=nowhere", "--set", "metod=PUT", "--sampling-rate", "7"]];
    let (code, out, message) = me.refused(&bad.concat()).await;
    assert_eq!((code, out.as_str()), (Some(64), ""), "{message}");
    for path in ["config.url: ", "config.metod: ", "sampling_rate: "] {
        assert!(message.lines().any(|line| line.starts_with(path)), "{path}: {message}");
    }
    assert!(message.contains("hint: did you mean"), "{message}");

    // Two of one name: the person must say which.
    me.told(&[&create[..], &["twin", "--set", "url=http://127.0.0.1:9/1"]].concat()).await;
    me.told(&[&create[..], &["twin", "--set", "url=http://127.0.0.1:9/2"]].concat()).await;
    let (code, out, message) = me.refused(&["destination", "delete", "twin"]).await;
    assert_eq!((code, out.as_str()), (Some(64), ""), "{message}");
    let (_, all) = gateway.api("GET", "/observability/destinations", None).await;
    let twins = all["data"].as_array().expect("a list").iter().filter(|d| d["name"] == "twin");
    let ids: Vec<&str> = twins.filter_map(|d| d["id"].as_str()).collect();
    assert_eq!(ids.len(), 2);
    for id in ids {
        assert!(message.contains(id), "{id} is missing in:\n{message}");
    }
    assert_eq!(me.refused(&["destination", "show", "nobody"]).await.0, Some(64));
    assert_eq!(me.refused(&["key", "delete", "nobody"]).await.0, Some(64));

    for arguments in [
        &["destination"][..],
        &["destination", "create", "--set", "url"],
        &["destination", "create", "--type", "webhook", "--name", "x", "--secret", "url=NO_SUCH_VARIABLE"],
        &["destination", "update", "dead"],
        &["send", "--target", "nowhere"],
        &["send", "--wait", "--target", "nowhere"],
    ] {
        let (code, _, message) = me.refused(arguments).await;
        assert_eq!(code, Some(64), "{arguments:?}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_the_body_is_the_apis() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let me = Person::new(&home, &gateway);
    let created = me
        .told(&[
            "destination",
            "create",
            "--json",
            "--type",
            "webhook",
            "--name",
            "w",
            "--set",
            "url=http://127.0.0.1:9/x",
        ])
        .await;
    let created: Json = serde_json::from_str(&created).expect("JSON");
    let id = created["data"]["id"].as_str().expect("an id").to_owned();

    let client = reqwest::Client::new();
    let pairs = [
        (vec!["destination", "list", "--json"], "/observability/destinations?limit=100".to_owned()),
        (vec!["destination", "show", "w", "--json"], format!("/observability/destinations/{id}")),
        (vec!["stats", "w", "--json"], format!("/observability/destinations/{id}/stats")),
        (vec!["key", "list", "--json"], "/keys?include_disabled=true&include_expired=true".to_owned()),
    ];
    for (arguments, path) in pairs {
        let url = format!("{}/api/v1{path}", gateway.admin);
        let response = client.get(url).bearer_auth(MANAGEMENT_KEY).send().await.expect("an answer");
        let body = response.text().await.expect("a body");
        assert_eq!(me.told(&arguments).await, format!("{body}\n"), "{arguments:?}");
    }

    let (code, out, _) = me.refused(&["destination", "update", "w", "--set", "url=nowhere", "--json"]).await;
    assert_eq!(code, Some(64));
    let error: Json = serde_json::from_str(&out).expect("the error body");
    assert_eq!(error["error"]["code"], 400, "{error}");
    let deleted = me.told(&["destination", "delete", "w", "--json"]).await;
    assert_eq!(serde_json::from_str::<Json>(&deleted).expect("JSON"), json!({ "deleted": true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_form_of_the_config_creates_and_changes_destinations() {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let me = Person::new(&home, &gateway);
    let file = |name: &str, text: &str| std::fs::write(home.path().join(name), text).expect("a file");

    file(
        "two.yaml",
        "destinations:\n  - type: webhook\n    name: one\n    sampling_rate: ${RATE}\n    config:\n      url: ${URL}/1\n  \
         - { type: webhook, name: two, config: { url: \"${URL}/2\" } }\n",
    );
    let output = me.run(&["destination", "create", "-f", "two.yaml"]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("two.yaml:4:"), "{}", stderr(&output));
    let environment = [("URL", "http://127.0.0.1:9"), ("RATE", "0.25")];
    let output = me.run_with(&["destination", "create", "-f", "two.yaml"], &environment).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let one = me.told(&["destination", "show", "one"]).await;
    assert_eq!((value(&one, "sampling_rate"), value(&one, "config.url")), ("0.25", "http://127.0.0.1:9/1"));
    assert_eq!(value(&me.told(&["destination", "show", "two"]).await, "config.url"), "http://127.0.0.1:9/2");

    // What the gateway finds wrong is told with its line.
    file("bad.yaml", "type: webhook\nname: bad\nconfig:\n  url: nowhere\n");
    let (code, _, message) = me.refused(&["destination", "create", "-f", "bad.yaml"]).await;
    assert_eq!(code, Some(64));
    assert!(message.contains("bad.yaml:4:8: config.url: "), "{message}");

    // A shown destination is a file one can edit and give back.
    let shown = me.told(&["destination", "show", "one", "--json"]).await;
    file("one.json", &shown.replace("\"name\":\"one\"", "\"name\":\"uno\""));
    me.told(&["destination", "update", "one", "-f", "one.json"]).await;
    let uno = me.told(&["destination", "show", "uno"]).await;
    assert_eq!(value(&uno, "config.url"), "http://127.0.0.1:9/1");

    file("three.json", r#"{"type": "webhook", "name": "?", "config": {"url": "http://127.0.0.1:9/3"}}"#);
    let mut command = home.command(&["destination", "create", "--name", "three", "-f", "-"]);
    command
        .env("TRACECAST_ADMIN_URL", &gateway.admin)
        .env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY)
        .stdin(std::fs::File::open(home.path().join("three.json")).expect("the file"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(value(&stdout(&output), "name"), "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_management_key_is_replaced_while_the_gateway_is_stopped() {
    let home = Home::new(BINARY);
    home.config("");
    // No key is given, so that one is generated and stored.
    let serve = || home.spawn(home.command(&["serve", "--config", "config.yaml"]));
    let reset = |dir: &str| {
        let output = home.command(&["key", "reset-management", "--data-dir", dir]).output();
        output.expect("the program can be run")
    };
    let status = async |gateway: &Gateway, key: &str| {
        let url = format!("{}/api/v1/keys", gateway.admin);
        let response = reqwest::Client::new().get(url).bearer_auth(key).send().await.expect("an answer");
        response.status().as_u16()
    };
    let gateway = serve();
    let old = home
        .stderr()
        .lines()
        .find_map(|line| line.strip_prefix("export TRACECAST_MANAGEMENT_KEY=").map(str::to_owned))
        .expect("the first key");
    assert_eq!(status(&gateway, &old).await, 200);

    let refused = reset("data");
    assert_eq!(refused.status.code(), Some(74));
    assert!(stderr(&refused).contains("in use"), "{}", stderr(&refused));
    assert_eq!(stdout(&refused), "");
    assert_eq!(status(&gateway, &old).await, 200, "nothing has changed");
    assert_eq!(gateway.stop(), 0);

    let done = reset("data");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let new =
        stdout(&done).trim().strip_prefix("export TRACECAST_MANAGEMENT_KEY=").expect("a key").to_owned();
    let gateway = serve();
    assert_eq!(status(&gateway, &old).await, 401);
    assert_eq!(status(&gateway, &new).await, 200);
    assert_eq!(gateway.stop(), 0);

    // Where no gateway was, nothing is made.
    std::fs::create_dir(home.path().join("empty")).expect("a directory");
    for dir in ["empty", "missing"] {
        assert_eq!(reset(dir).status.code(), Some(74), "{dir}");
    }
    assert_eq!(std::fs::read_dir(home.path().join("empty")).expect("the directory").count(), 0);
}
