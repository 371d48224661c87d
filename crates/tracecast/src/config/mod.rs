//! The config file: strict YAML, substitution, overrides, and every mistake told at once with its place.
//!
//! Precedence: flag, then `TRACECAST__SECTION__KEY`, then file, then default.

mod changes;
mod entry;
mod read;
mod substitute;
mod tree;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};
use tracecast_control::FileKey;
use tracecast_destination::{
    CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy, Region, did_you_mean,
};
use tracecast_ingest::{Auth, Media};
use tracecast_log::{Durability, OnFull};
use tracecast_rules::CanAssert;
use tracecast_sinks::OutboundPolicy;
use uuid::Uuid;

pub(crate) use entry::{Entry, Purpose, assign, read_entries, secret_text};
use read::{Section, address, boolean, bytes, duration, word};
use substitute::{Process, Sources, substitute};
use tree::{Node, Origin, Value};

/// Everything `serve` needs to know, valid as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) ingest_http: SocketAddr,
    pub(crate) ingest_grpc: SocketAddr,
    pub(crate) auth: Auth,
    pub(crate) region: Region,
    pub(crate) media: Media,
    pub(crate) service_name: String,
    pub(crate) keys: Vec<FileKey>,
    pub(crate) admin: SocketAddr,
    pub(crate) data_dir: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) log_max_bytes: u64,
    pub(crate) log_max_age: Duration,
    pub(crate) log_on_full: OnFull,
    pub(crate) log_retain: Duration,
    pub(crate) body_bytes: u64,
    pub(crate) inflated_body_bytes: u64,
    /// Bytes the process may hold for requests and caches; resolved when `auto`.
    pub(crate) memory_bytes: u64,
    pub(crate) destinations_per_kind: u32,
    /// Which addresses destinations may have.
    pub(crate) outbound: OutboundPolicy,
    pub(crate) destinations: Vec<Destination>,
    /// Where the gateway's own metrics are pushed by OTLP/HTTP, if anywhere.
    pub(crate) telemetry_otlp: Option<String>,
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) origin: Option<Origin>,
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// All of them, in the order found.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    file: Option<PathBuf>,
    list: Vec<Mistake>,
}

impl Mistakes {
    fn add(&mut self, origin: &Origin, path: &str, message: String, hint: Option<String>) {
        self.list.push(Mistake { origin: Some(origin.clone()), path: path.to_owned(), message, hint });
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    #[cfg(test)]
    fn list(&self) -> &[Mistake] {
        &self.list
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or(Path::new("config")).display();
        for mistake in &self.list {
            match &mistake.origin {
                Some(Origin::File { line, column }) => write!(f, "{file}:{line}:{column}: ")?,
                Some(Origin::Env(name)) => write!(f, "{name}: ")?,
                None => write!(f, "{file}: ")?,
            }
            if !mistake.path.is_empty() {
                write!(f, "{}: ", mistake.path)?;
            }
            writeln!(f, "{}", mistake.message)?;
            if let Some(hint) = &mistake.hint {
                writeln!(f, "    hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// Reads the file (or only the defaults), the process's environment, and says everything that is wrong.
pub(crate) fn load(file: Option<&Path>, data_dir: Option<&Path>) -> Result<Config, Mistakes> {
    let text = match file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| Mistakes {
            file: Some(path.to_owned()),
            list: vec![Mistake {
                origin: None,
                path: String::new(),
                message: format!("cannot be read: {e}"),
                hint: None,
            }],
        })?,
    };
    let env = std::env::vars().filter(|(name, _)| name.starts_with("TRACECAST__")).collect();
    build(&text, file, env, data_dir, &Process)
}

fn build(
    text: &str,
    file: Option<&Path>,
    env: Vec<(String, String)>,
    data_dir: Option<&Path>,
    sources: &dyn Sources,
) -> Result<Config, Mistakes> {
    let mut mistakes = Mistakes { file: file.map(Path::to_owned), list: Vec::new() };
    let mut root = match tree::parse(text) {
        Ok(root) => root,
        Err((at, message)) => {
            mistakes.list.push(Mistake {
                origin: at.map(|(line, column)| Origin::File { line, column }),
                path: String::new(),
                message: format!("not valid YAML: {message}"),
                hint: None,
            });
            return Err(mistakes);
        }
    };
    substitute(&mut root, "", sources, &mut mistakes);
    for (name, value) in env {
        override_with(&mut root, &name, value, &mut mistakes);
    }
    let config = read_config(&root, data_dir, sources, &mut mistakes);
    if mistakes.list.is_empty() { Ok(config) } else { Err(mistakes) }
}

/// Puts the value of `TRACECAST__SECTION__KEY` in its place. Only single values can be overridden.
fn override_with(root: &mut Node, name: &str, value: String, mistakes: &mut Mistakes) {
    let origin = Origin::Env(name.to_owned());
    let steps: Vec<String> =
        name.trim_start_matches("TRACECAST__").split("__").map(str::to_ascii_lowercase).collect();
    if steps.iter().any(String::is_empty) || steps[0] == "destinations" || steps.join(".") == "ingest.keys" {
        let hint = "names are TRACECAST__SECTION__KEY for a single value, like TRACECAST__INGEST__HTTP";
        mistakes.add(&origin, "", "does not name a setting".into(), Some(hint.into()));
        return;
    }
    let mut node = root;
    for step in &steps {
        if matches!(node.value, Value::Null) {
            node.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut node.value else {
            mistakes.add(&origin, "", "goes below a single value".into(), None);
            return;
        };
        let at = entries.iter().position(|(k, _, _)| k == step).unwrap_or_else(|| {
            let empty = Node { origin: origin.clone(), value: Value::Null };
            entries.push((step.clone(), origin.clone(), empty));
            entries.len() - 1
        });
        node = &mut entries[at].2;
    }
    *node = Node { origin, value: Value::Text { text: value, retype: true } };
}

fn read_config(
    root: &Node,
    data_dir_flag: Option<&Path>,
    sources: &dyn Sources,
    mistakes: &mut Mistakes,
) -> Config {
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let mut top = Section::root(root, mistakes);

    let mut ingest = top.section("ingest", mistakes);
    let ingest_http = ingest.setting("http", loopback(4318), mistakes, address);
    let ingest_grpc = ingest.setting("grpc", loopback(4317), mistakes, address);
    let auth = ingest
        .setting("auth", Auth::Keys, mistakes, |t| word(t, &[("keys", Auth::Keys), ("none", Auth::None)]));
    if auth == Auth::None && !(ingest_http.ip().is_loopback() && ingest_grpc.ip().is_loopback()) {
        let at = root.nearest("ingest.auth");
        let hint = "use `auth: keys`, or bind ingest.http and ingest.grpc to 127.0.0.1";
        mistakes.add(
            &at.origin,
            "ingest.auth",
            "`none` is only allowed on loopback".into(),
            Some(hint.into()),
        );
    }
    let region = ingest.setting("region", Region::Global, mistakes, |t| {
        Region::parse(t).ok_or_else(|| format!("`{t}` is not one of global, europe, us"))
    });
    let media = ingest.setting("media", Media::Strip, mistakes, |t| {
        word(t, &[("strip", Media::Strip), ("keep", Media::Keep)])
    });
    let service_name = ingest.setting("service_name", "tracecast".to_owned(), mistakes, |t| Ok(t.to_owned()));
    let keys = match ingest.take("keys") {
        Some(node) => read_keys(node, mistakes),
        None => Vec::new(),
    };
    ingest.finish(mistakes);

    let mut admin = top.section("admin", mistakes);
    let admin_listen = admin.setting("listen", loopback(4320), mistakes, address);
    admin.finish(mistakes);

    let from_file =
        top.setting("data_dir", PathBuf::from("./tracecast-data"), mistakes, |t| match t.trim() {
            "" => Err("is empty".into()),
            dir => Ok(PathBuf::from(dir)),
        });
    let data_dir = data_dir_flag.map_or(from_file, Path::to_owned);

    let mut log = top.section("log", mistakes);
    let durability = log.setting("durability", Durability::Durable, mistakes, |t| {
        word(
            t,
            &[
                ("durable", Durability::Durable),
                ("buffered", Durability::Buffered),
                ("memory", Durability::Memory),
            ],
        )
    });
    let log_max_bytes = log.setting("max_bytes", 10 << 30, mistakes, |t| match bytes(t)? {
        n if n < 256 << 20 => Err(format!("`{t}` is too small: the log needs at least 256MiB")),
        n => Ok(n),
    });
    let log_max_age =
        log.setting("max_age", Duration::from_secs(24 * 3600), mistakes, |t| match duration(t)? {
            d if d < Duration::from_secs(60) => Err(format!("`{t}` is too short: at least 1m")),
            d if d > Duration::from_secs(7 * 86_400) => Err(format!("`{t}` is too long: at most 7d")),
            d => Ok(d),
        });
    let log_on_full = log.setting("on_full", OnFull::DropOldest, mistakes, |t| {
        word(t, &[("drop_oldest", OnFull::DropOldest), ("drop_newest", OnFull::DropNewest)])
    });
    let log_retain = log.setting("retain", Duration::ZERO, mistakes, |t| match t {
        "0" => Ok(Duration::ZERO),
        t => match duration(t)? {
            d if d > Duration::from_secs(7 * 86_400) => Err(format!("`{t}` is too long: at most 7d")),
            d => Ok(d),
        },
    });
    log.finish(mistakes);

    let mut limits = top.section("limits", mistakes);
    let body_bytes = limits.setting("body_bytes", 20 << 20, mistakes, body_limit);
    let inflated_body_bytes = limits.setting("inflated_body_bytes", 64 << 20, mistakes, body_limit);
    let memory_bytes = limits.setting("memory_bytes", crate::memory::auto_bytes(), mistakes, |t| match t {
        "auto" => Ok(crate::memory::auto_bytes()),
        t => match bytes(t)? {
            n if n < 64 << 20 => Err(format!("`{t}` is too small: at least 64MiB")),
            n => Ok(n),
        },
    });
    let destinations_per_kind = limits.setting("destinations_per_kind", 5, mistakes, |t| {
        t.parse().map_err(|_| format!("`{t}` is not a whole number"))
    });
    limits.finish(mistakes);

    let mut outbound = top.section("outbound", mistakes);
    let deny_private_addresses = outbound.setting("deny_private_addresses", false, mistakes, boolean);
    let allow = match outbound.take("allow") {
        Some(node) => read_texts(node, "outbound.allow", mistakes),
        None => Vec::new(),
    };
    outbound.finish(mistakes);

    let mut telemetry = top.section("telemetry", mistakes);
    let telemetry_otlp = telemetry.setting("otlp", None, mistakes, |t| {
        if t.starts_with("http://") || t.starts_with("https://") {
            Ok(Some(t.to_owned()))
        } else {
            Err(format!("`{t}` is not an http or https URL"))
        }
    });
    telemetry.finish(mistakes);

    let destinations = match top.take("destinations") {
        Some(node) => read_destinations(node, &data_dir, sources, mistakes),
        None => Vec::new(),
    };
    top.finish(mistakes);

    Config {
        ingest_http,
        ingest_grpc,
        auth,
        region,
        media,
        service_name,
        keys,
        admin: admin_listen,
        data_dir,
        durability,
        log_max_bytes,
        log_max_age,
        log_on_full,
        log_retain,
        body_bytes,
        inflated_body_bytes,
        memory_bytes,
        destinations_per_kind,
        outbound: OutboundPolicy { deny_private_addresses, allow },
        destinations,
        telemetry_otlp,
    }
}

fn body_limit(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        0 => Err("must be more than 0".into()),
        n if n > 1 << 30 => Err(format!("`{text}` is too large: at most 1GiB")),
        n => Ok(n),
    }
}

/// A list of texts.
fn read_texts(node: &Node, path: &str, mistakes: &mut Mistakes) -> Vec<String> {
    let Value::List(items) = &node.value else {
        mistakes.add(&node.origin, path, format!("must be a list, not {}", node.value.kind()), None);
        return Vec::new();
    };
    let mut texts = Vec::new();
    for (i, item) in items.iter().enumerate() {
        match &item.value {
            Value::Text { text, .. } => texts.push(text.clone()),
            other => {
                let message = format!("must be text, not {}", other.kind());
                mistakes.add(&item.origin, &format!("{path}[{i}]"), message, None);
            }
        }
    }
    texts
}

fn read_keys(node: &Node, mistakes: &mut Mistakes) -> Vec<FileKey> {
    let Value::List(items) = &node.value else {
        mistakes.add(&node.origin, "ingest.keys", format!("must be a list, not {}", node.value.kind()), None);
        return Vec::new();
    };
    let mut keys = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let mut section = Section::root(item, mistakes);
        let path = format!("ingest.keys[{i}]");
        let before = mistakes.list.len();
        let text = |t: &str| Ok(Some(t.to_owned()));
        let name = section.setting("name", None, mistakes, text);
        let key = section.setting("key", None, mistakes, text);
        let sha256 = section.setting("sha256", None, mistakes, |t| {
            tracecast_otlp::from_hex(t).map(Some).ok_or_else(|| "is not 64 hexadecimal digits".to_owned())
        });
        let workspace = section.setting("workspace", None, mistakes, text);
        let can_assert = section.setting("can_assert_identity", CanAssert::None, mistakes, |t| {
            word(
                t,
                &[
                    ("none", CanAssert::None),
                    ("own_workspace", CanAssert::OwnWorkspace),
                    ("any_workspace", CanAssert::AnyWorkspace),
                ],
            )
        });
        section.finish(mistakes);
        for mistake in &mut mistakes.list[before..] {
            mistake.path = format!("{path}.{}", mistake.path);
        }
        let name = name.unwrap_or_else(|| {
            mistakes.add(&item.origin, &format!("{path}.name"), "is missing".into(), None);
            String::new()
        });
        let sha256 = match (key, sha256) {
            (Some(key), None) => Sha256::digest(key.as_bytes()).into(),
            (None, Some(hash)) => hash,
            _ => {
                let hint = "give the secret as `key` or its SHA-256 as `sha256`, not both";
                mistakes.add(&item.origin, &path, "needs `key` or `sha256`".into(), Some(hint.into()));
                [0; 32]
            }
        };
        keys.push(FileKey { name, sha256, workspace, can_assert });
    }
    keys
}

/// Fields that are not text. A substituted scalar takes this type where it stands for one of them.
const NUMBERS: [&str; 3] = ["sampling_rate", "rate_limit.requests_per_second", "rate_limit.spans_per_second"];
const BOOLEANS: [&str; 8] = [
    "enabled",
    "privacy_mode",
    "broadcast_generation_cost",
    "broadcast_generation_identity",
    "broadcast_generation_request_context",
    "broadcast_generation_cost_allocation",
    "config.shouldIncludeCacheWriteTokens",
    "filter_rules.enabled",
];

fn to_json(node: &Node, path: &str) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(i) => Json::from(*i),
        Value::Float(f) => serde_json::Number::from_f64(*f).map_or(Json::Null, Json::Number),
        Value::Text { text, retype } => {
            let number = (*retype && NUMBERS.contains(&path))
                .then(|| text.parse().ok().and_then(serde_json::Number::from_f64))
                .flatten();
            let flag = (*retype && BOOLEANS.contains(&path)).then(|| text.parse().ok()).flatten();
            match (number, flag) {
                (Some(n), _) => Json::Number(n),
                (_, Some(b)) => Json::Bool(b),
                _ => Json::String(text.clone()),
            }
        }
        Value::List(items) => Json::Array(items.iter().map(|n| to_json(n, path)).collect()),
        Value::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, _, value)| {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    (key.clone(), to_json(value, &below))
                })
                .collect::<Map<_, _>>(),
        ),
    }
}

/// Keys a destination may have in the file: those of the API's create body, and `id`.
const DESTINATION_KEYS: [&str; 16] = [
    "id",
    "type",
    "name",
    "config",
    "workspace_id",
    "enabled",
    "privacy_mode",
    "sampling_rate",
    "api_key_hashes",
    "filter_rules",
    "regions",
    "rate_limit",
    "broadcast_generation_cost",
    "broadcast_generation_identity",
    "broadcast_generation_request_context",
    "broadcast_generation_cost_allocation",
];

/// A workspace by uuid, or by a slug the store in the data directory knows.
fn resolve_workspace(text: &str, data_dir: &Path, sources: &dyn Sources) -> Result<Uuid, String> {
    if let Ok(id) = Uuid::parse_str(text) {
        return Ok(id);
    }
    match sources.workspace(data_dir, text) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(format!("there is no workspace `{text}` in {}", data_dir.display())),
        Err(error) => Err(format!("workspace `{text}` cannot be looked up: {error}")),
    }
}

fn read_destinations(
    node: &Node,
    data_dir: &Path,
    sources: &dyn Sources,
    mistakes: &mut Mistakes,
) -> Vec<Destination> {
    let Value::List(items) = &node.value else {
        let message = format!("must be a list, not {}", node.value.kind());
        mistakes.add(&node.origin, "destinations", message, None);
        return Vec::new();
    };
    let mut destinations: Vec<Destination> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let path = format!("destinations[{i}]");
        let Value::Map(entries) = &item.value else {
            mistakes.add(&item.origin, &path, format!("must be a mapping, not {}", item.value.kind()), None);
            continue;
        };
        // Strict here, though the API ignores what it does not know: a typo in a file must not be silent.
        for (key, origin, _) in entries {
            if !DESTINATION_KEYS.contains(&key.as_str()) {
                let hint = did_you_mean(key, DESTINATION_KEYS).map(|near| format!("did you mean `{near}`?"));
                mistakes.add(origin, &format!("{path}.{key}"), "unknown key".into(), hint);
            }
        }
        let body = to_json(item, "");
        let workspace = match body.get("workspace_id").and_then(Json::as_str) {
            None | Some("default") => DEFAULT_WORKSPACE_ID,
            Some(text) => resolve_workspace(text, data_dir, sources).unwrap_or_else(|message| {
                let at = &item.nearest("workspace_id").origin;
                mistakes.add(at, &format!("{path}.workspace_id"), message, None);
                DEFAULT_WORKSPACE_ID
            }),
        };
        let mut body = body;
        if let Some(object) = body.as_object_mut() {
            object.insert("workspace_id".into(), Json::String(workspace.to_string()));
        }
        let defaults = CreateDefaults {
            // The file's `id`, else derived from workspace, type and name.
            id: Uuid::nil(),
            workspace_id: workspace,
            managed_by: ManagedBy::File,
            now: jiff::Timestamp::now(),
        };
        match Destination::create(&body, defaults) {
            Ok(destination) => {
                if let Some(first) = destinations.iter().position(|d| d.id == destination.id) {
                    let message = format!("is the same destination as destinations[{first}]");
                    let hint = "workspace, type and name together must be unique, or give each an `id`";
                    mistakes.add(&item.origin, &path, message, Some(hint.into()));
                }
                destinations.push(destination);
            }
            Err(issues) => {
                for issue in issues {
                    let at = &item.nearest(&issue.path).origin;
                    let full =
                        if issue.path.is_empty() { path.clone() } else { format!("{path}.{}", issue.path) };
                    mistakes.add(at, &full, issue.message, issue.hint);
                }
            }
        }
    }
    destinations
}

#[cfg(test)]
mod tests;
