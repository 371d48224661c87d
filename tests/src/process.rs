//! The gateway as a child process that is spoken to over its ports.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use memchr::memmem;
use serde_json::{Value as Json, json};

/// The management key every test gateway is given.
pub const MANAGEMENT_KEY: &str = "sk-tc-mgmt-tests-0123456789abcdef0123456789abcdef";
/// The ordinary key of the default test config.
pub const INGEST_KEY: &str = "sk-tc-v1-tests-0123456789abcdef0123456789abcdef";
/// How long a test waits for something that must come: long, because the machine may be slow and busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Whether times are asserted too, with `TRACECAST_TIMED=1`: on a machine that does nothing else. Otherwise they are
/// figures that are shown.
pub fn is_timed() -> bool {
    std::env::var_os("TRACECAST_TIMED").is_some()
}

/// A directory with a config file and the gateway's data.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
    binary: PathBuf,
}

/// A running gateway. Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    /// `http://...` of the ingest listener.
    pub http: String,
    /// `host:port` of the gRPC listener.
    pub grpc: String,
    /// `http://...` of the admin listener.
    pub admin: String,
    client: reqwest::Client,
}

impl Home {
    /// A new directory. `binary` is `env!("CARGO_BIN_EXE_tracecast-under-test")` of the test.
    pub fn new(binary: &str) -> Home {
        Home { dir: tempfile::tempdir().expect("a temporary directory"), binary: binary.into() }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The binary with these arguments, standing in this directory, without our variables from outside.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(self.path());
        for (name, _) in std::env::vars() {
            if name.starts_with("TRACECAST") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Writes `config.yaml`: free ports, one ordinary key, and `more` (top-level YAML).
    pub fn config(&self, more: &str) {
        let text = format!(
            "ingest:\n  http: 127.0.0.1:0\n  grpc: 127.0.0.1:0\n  keys:\n    - {{ name: tests, key: {INGEST_KEY} }}\n\
             admin: {{ listen: \"127.0.0.1:0\" }}\ndata_dir: ./data\n{more}"
        );
        std::fs::write(self.path().join("config.yaml"), text).expect("the config file can be written");
    }

    /// Starts the gateway on `config.yaml` and waits until it serves.
    pub fn start(&self) -> Gateway {
        self.start_with(&[])
    }

    /// The same with these environment variables.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Gateway {
        let mut command = self.serve();
        command.envs(variables.iter().copied());
        self.spawn(command)
    }

    /// The command that serves on `config.yaml`.
    pub fn serve(&self) -> Command {
        let mut command = self.command(&["serve", "--config", "config.yaml"]);
        command.env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY);
        command
    }

    /// Starts a `serve` command and waits until it serves.
    pub fn spawn(&self, mut command: Command) -> Gateway {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path().join("stderr.log"))
            .expect("the log file can be opened");
        let mut child =
            command.stdout(Stdio::piped()).stderr(log).spawn().expect("the gateway can be started");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let mut address = |prefix: &str| -> String {
            loop {
                match lines.next() {
                    Some(Ok(line)) => {
                        if let Some(rest) = line.strip_prefix(prefix) {
                            return rest.trim().to_owned();
                        }
                    }
                    _ => panic!("the gateway ended early:\n{}", self.stderr()),
                }
            }
        };
        let (http, grpc, admin) = (address("ingest http"), address("ingest grpc"), address("admin"));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        Gateway { child, http, grpc, admin, client }
    }

    /// Files of this directory, at any depth, whose bytes contain `needle`.
    pub fn files_with(&self, needle: &str) -> Vec<String> {
        files_with(self.path(), needle.as_bytes())
    }

    /// What the gateways of this directory wrote to stderr so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.path().join("stderr.log")).unwrap_or_default()
    }
}

fn files_with(directory: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path).is_ok_and(|bytes| memmem::find(&bytes, needle).is_some()) {
            found.push(path.display().to_string());
        }
    }
    found
}

impl Gateway {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("the gateway can be killed");
        self.child.wait().expect("the gateway ends");
    }

    /// SIGTERM, waits for the end, returns the exit code.
    pub fn stop(self) -> i32 {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill can be run");
        assert!(sent.success(), "SIGTERM could not be sent");
        self.ended()
    }

    /// Waits for an end that somebody else caused, returns the exit code.
    pub fn ended(mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < PATIENCE, "the gateway does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A call of the admin API: status and body.
    pub async fn api(&self, method: &str, path: &str, body: Option<&Json>) -> (u16, Json) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let url = format!("{}/api/v1{path}", self.admin);
        let mut request = self.client.request(method, url).bearer_auth(MANAGEMENT_KEY);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("the admin API answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Json::String(text)))
    }

    /// A path of the admin listener that needs no key: status and text.
    pub async fn get_admin(&self, path: &str) -> (u16, String) {
        let response = self.client.get(format!("{}{path}", self.admin)).send().await;
        let response = response.expect("the admin listener answers");
        let status = response.status().as_u16();
        (status, response.text().await.expect("a body"))
    }

    /// Creates a destination and returns its id.
    pub async fn destination(&self, body: Json) -> String {
        let (status, answer) = self.api("POST", "/observability/destinations", Some(&body)).await;
        assert_eq!(status, 201, "{answer}");
        answer["data"]["id"].as_str().expect("an id").to_owned()
    }

    /// A destination of the kind with that config and defaults for the rest.
    pub async fn simple(&self, kind: &str, name: &str, config: Json) -> String {
        self.destination(json!({ "type": kind, "name": name, "config": config })).await
    }

    /// The stats of a destination.
    pub async fn stats(&self, id: &str) -> Json {
        let (status, answer) =
            self.api("GET", &format!("/observability/destinations/{id}/stats"), None).await;
        assert_eq!(status, 200, "{answer}");
        answer["data"].clone()
    }

    /// Waits until the destination has nothing pending and `selected` spans are in its books; checks that
    /// they balance.
    pub async fn settled(&self, id: &str, selected: u64) -> Json {
        let started = Instant::now();
        loop {
            let stats = self.stats(id).await;
            if stats["selected"].as_u64() == Some(selected) && stats["pending"].as_u64() == Some(0) {
                assert_balanced(&stats);
                return stats;
            }
            assert!(started.elapsed() < PATIENCE, "not settled after {PATIENCE:?}: {stats:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The stats of a destination, once an attempt has failed.
    pub async fn failed(&self, id: &str) -> Json {
        let started = Instant::now();
        loop {
            let stats = self.stats(id).await;
            if !stats["last_error"].is_null() {
                return stats;
            }
            assert!(started.elapsed() < PATIENCE, "no attempt failed: {stats:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends an OTLP protobuf body with the ordinary key; the status and body of the answer.
    pub async fn send(&self, body: Vec<u8>) -> (u16, Vec<u8>) {
        self.post("/v1/traces", &[("content-type", "application/x-protobuf")], body).await
    }

    /// Sends a body to the ingest listener with the ordinary key.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, Vec<u8>) {
        let mut request = self.client.post(format!("{}{path}", self.http)).bearer_auth(INGEST_KEY);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await.expect("the ingest listener answers");
        let status = response.status().as_u16();
        (status, response.bytes().await.expect("a body").to_vec())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The two equations of the books.
pub fn assert_balanced(stats: &Json) {
    let n = |key: &str| stats[key].as_u64().unwrap_or_else(|| panic!("{key} is missing: {stats:#}"));
    let sum = |key: &str| -> u64 {
        let map = stats[key].as_object().unwrap_or_else(|| panic!("{key} is missing: {stats:#}"));
        map.values().filter_map(Json::as_u64).sum()
    };
    assert_eq!(
        n("selected") + n("requeued"),
        n("delivered") + n("dead_lettered") + sum("dropped") + n("pending"),
        "{stats:#}"
    );
    assert_eq!(n("accepted"), n("selected") + sum("skipped"), "{stats:#}");
}
