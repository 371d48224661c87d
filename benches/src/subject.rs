//! What is measured: the floor, the gateway in a mode, or a peer; each started fresh for each run.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::peer::Peer;
use crate::process::Running;
use crate::run::Place;
use crate::scenario::{Base, Course, Rules, Scenario};

/// The name under which this binary is the gateway.
pub(crate) const GATEWAY: &str = "tracecast";
/// The key that the load presents to the gateway.
const KEY: &str = "sk-tc-v1-benches-0123456789abcdef0123456789abcdef";
const MANAGEMENT_KEY: &str = "sk-tc-mgmt-benches-0123456789abcdef0123456789abcdef";
/// How long a subject may take to listen.
const START: Duration = Duration::from_secs(20);
/// The destination with privacy, as the table says it: one of five.
pub(crate) const PRIVATE: usize = 4;

#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Floor,
    Gateway(Gateway),
    /// Deflate or inflate of the same bytes, alone.
    Zlib,
    Peer(Peer),
}

#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    /// `log.durability`.
    pub(crate) durability: String,
    /// The `tracecast` to run; what is built into this binary if absent.
    pub(crate) program: Option<PathBuf>,
}

/// A subject that takes requests.
pub(crate) struct Started {
    pub(crate) process: Running,
    pub(crate) url: String,
    pub(crate) key: Option<String>,
    /// Base URL of the gateway's control API.
    pub(crate) admin: Option<String>,
    /// Config and data; removed afterwards.
    _dir: tempfile::TempDir,
}

impl Subject {
    pub(crate) fn name(&self) -> String {
        match self {
            Subject::Floor => "floor".to_owned(),
            Subject::Gateway(gateway) => format!("tracecast {}", gateway.durability),
            Subject::Zlib => "zlib-rs alone".to_owned(),
            Subject::Peer(peer) => peer.name.clone(),
        }
    }

    /// Whether it has a part in the scenario.
    pub(crate) fn can(&self, scenario: &Scenario) -> bool {
        match self {
            Subject::Floor => scenario.base == Base::Floor,
            // What waits would not fit the memory: the oldest of it would be given up, counted.
            Subject::Gateway(gateway) => scenario.course != Course::Backlog || gateway.durability != "memory",
            Subject::Zlib => scenario.base == Base::Zlib,
            Subject::Peer(peer) => {
                scenario.course == Course::Load && peer.scenarios.iter().any(|name| name == scenario.name)
            }
        }
    }

    /// Starts it, delivering to these base URLs. Data lies under `dir`, so that a durable run syncs on that disk.
    pub(crate) async fn start(
        &self,
        scenario: &Scenario,
        sinks: &[String],
        place: &Place,
    ) -> anyhow::Result<Started> {
        let (dir, cores) = (tempfile::tempdir_in(&place.dir)?, place.cores);
        match self {
            Subject::Zlib => anyhow::bail!("zlib-rs alone is no process"),
            Subject::Peer(peer) => start_peer(peer, sinks, dir, cores).await,
            Subject::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("floor");
                sinks.iter().for_each(|sink| {
                    command.args(["--to", &format!("{sink}/v1/traces")]);
                });
                let (process, mut lines) = Running::start(command, cores)?;
                let ingest = address(&mut lines, "ingest http").context("the floor does not listen")?;
                drain(lines);
                Ok(Started { process, url: format!("{ingest}/v1/traces"), key: None, admin: None, _dir: dir })
            }
            Subject::Gateway(gateway) => {
                let mut destinations = destinations(scenario, sinks);
                if scenario.rules == Rules::Tenants {
                    // A workspace must exist before the file can name it.
                    let before = gateway.start(&[], dir.path(), cores)?;
                    destinations.extend(make_tenants(&before.2, destinations.len()).await?);
                }
                let (process, ingest, admin) = gateway.start(&destinations, dir.path(), cores)?;
                let url = format!("{ingest}/v1/traces");
                Ok(Started { process, url, key: Some(KEY.to_owned()), admin: Some(admin), _dir: dir })
            }
        }
    }
}

impl Started {
    /// A call of the gateway's control API: POST with a body, GET without.
    pub(crate) async fn api(&self, path: &str, body: Option<&Json>) -> anyhow::Result<Json> {
        api(self.admin.as_deref().context("only the gateway has a control API")?, path, body).await
    }
}

async fn api(admin: &str, path: &str, body: Option<&Json>) -> anyhow::Result<Json> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{admin}/api/v1{path}");
    let request = match body {
        Some(body) => client.post(&url).json(body),
        None => client.get(&url),
    };
    let answer = request.bearer_auth(MANAGEMENT_KEY).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    anyhow::ensure!(status.is_success(), "{url}: {status} {text}");
    Ok(serde_json::from_str(&text)?)
}

impl Gateway {
    /// The process and its two addresses: ingest, admin.
    fn start(
        &self,
        destinations: &[Json],
        dir: &Path,
        cores: Option<usize>,
    ) -> anyhow::Result<(Running, String, String)> {
        let config = json!({
            "ingest": {
                "http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "keys": [{ "name": "bench", "key": KEY }],
            },
            "admin": { "listen": "127.0.0.1:0" },
            "data_dir": dir.join("data"),
            "log": { "durability": self.durability },
            "limits": { "destinations_per_kind": 20_000 },
            "destinations": destinations,
        });
        let path = dir.join("gateway.yaml");
        std::fs::write(&path, config.to_string())?;
        let mut command = match &self.program {
            Some(program) => Command::new(program),
            None => Command::new(std::env::current_exe()?),
        };
        command.arg0(GATEWAY).arg("serve").arg("--config").arg(path);
        command.env("TRACECAST_LOG", "warn").env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY);
        // Its hints are about rules that match nothing, which is what some scenarios are about.
        let messages = dir.join("messages");
        command.stderr(std::fs::File::create(&messages)?);
        let (process, mut lines) = Running::start(command, cores)?;
        let mut address = |listener| {
            address(&mut lines, listener).with_context(|| {
                let said = std::fs::read_to_string(&messages).unwrap_or_default();
                format!("the gateway has no {listener}: {}", said.trim())
            })
        };
        let (ingest, admin) = (address("ingest http")?, address("admin")?);
        drain(lines);
        Ok((process, ingest, admin))
    }
}

/// The URL a listener's line names.
fn address(lines: &mut impl Iterator<Item = String>, listener: &str) -> Option<String> {
    lines.find_map(|line| line.strip_prefix(listener).map(|rest| rest.trim().to_owned()))
}

/// Nobody may block on a full pipe.
fn drain(lines: impl Iterator<Item = String> + Send + 'static) {
    std::thread::spawn(move || lines.for_each(drop));
}

async fn start_peer(
    peer: &Peer,
    sinks: &[String],
    dir: tempfile::TempDir,
    cores: Option<usize>,
) -> anyhow::Result<Started> {
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let config = dir.path().join("peer.config");
    let fill = |text: &str| Peer::fill(text, &listen, sinks, &config, dir.path());
    std::fs::write(&config, fill(&peer.config))?;
    let mut words = peer.command.iter().map(|word| fill(word));
    let mut command = Command::new(words.next().context("command names no program")?);
    command.args(words).current_dir(dir.path());
    let (process, lines) = Running::start(command, cores)?;
    drain(lines);
    let listening = async {
        while tokio::net::TcpStream::connect(&listen).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(START, listening)
        .await
        .with_context(|| format!("{} does not listen on {listen}", peer.name))?;
    let url = format!("http://{listen}{}", peer.path);
    Ok(Started { process, url, key: None, admin: None, _dir: dir })
}

/// The destinations of the default workspace: one for each sink selects, others (see [`Rules`]) do not.
fn destinations(scenario: &Scenario, sinks: &[String]) -> Vec<Json> {
    let mut all: Vec<Json> = sinks
        .iter()
        .enumerate()
        .map(|(i, sink)| {
            let mut destination = destination(&format!("sink {i}"), sink, scenario);
            if scenario.rules != Rules::None {
                destination["sampling_rate"] = 1.0.into();
                destination["api_key_hashes"] = key_hashes(KEY);
                destination["privacy_mode"] = (i == PRIVATE).into();
                destination["filter_rules"] = filter("contains", "/");
            }
            destination
        })
        .collect();
    let total = match scenario.rules {
        Rules::Usual | Rules::None => all.len(),
        Rules::OneOf(total) => total,
        Rules::Tenants => 10,
    };
    for i in all.len()..total {
        let mut other = destination(&format!("other {i}"), "http://127.0.0.1:9", scenario);
        match i % 2 {
            0 => other["api_key_hashes"] = key_hashes("somebody else's"),
            _ => other["filter_rules"] = filter("equals", &format!("nobody/model-{i}")),
        }
        all.push(other);
    }
    all
}

fn destination(name: &str, sink: &str, scenario: &Scenario) -> Json {
    let mut config = json!({ "endpoint": sink });
    if scenario.gzip_out {
        config["headers"] = json!({ "x-tracecast-compression": "gzip" });
    }
    json!({ "name": name, "type": "otel-collector", "config": config })
}

fn filter(operator: &str, value: &str) -> Json {
    json!({ "enabled": true, "groups": [{ "logic": "and", "rules": [
        { "field": "model", "operator": operator, "value": value } ] }] })
}

/// An allowlist of ten keys, this one among them.
fn key_hashes(key: &str) -> Json {
    let hash = |key: &str| -> String {
        Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let mut hashes: Vec<String> = (1..10).map(|i| hash(&format!("another key {i}"))).collect();
    hashes.push(hash(key));
    hashes.into()
}

/// Makes 999 workspaces; the answer is `each` destinations for each of them.
async fn make_tenants(admin: &str, each: usize) -> anyhow::Result<Vec<Json>> {
    let mut destinations = Vec::new();
    for tenant in 1..1000 {
        let slug = format!("tenant-{tenant}");
        let made = api(admin, "/workspaces", Some(&json!({ "name": slug, "slug": slug }))).await?;
        for i in 0..each {
            destinations.push(json!({
                "name": format!("{slug} {i}"), "type": "otel-collector", "workspace_id": made["data"]["id"],
                "config": { "endpoint": "http://127.0.0.1:9" }, "api_key_hashes": ["07".repeat(32)],
            }));
        }
    }
    Ok(destinations)
}
