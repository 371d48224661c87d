//! The settings of the file: section by section, typed, with their defaults.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tracecast_control::FileKey;
use tracecast_destination::{Destination, Region};
use tracecast_ingest::{Auth, Media};
use tracecast_log::{Durability, OnFull};
use tracecast_rules::CanAssert;
use tracecast_sinks::OutboundPolicy;

use super::Mistakes;
use super::destinations::read_destinations;
use super::forms::{Form, address, age, boolean, http_url, sha256, size, text, whole_number, words};
use super::read::Section;
use super::substitute::Sources;
use super::tree::{Node, Origin, Value};

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
    /// Bytes after inflating that each workspace may send per second; `None` = no limit.
    pub(crate) workspace_bytes_per_second: Option<NonZeroU64>,
    /// Connections each workspace may hold; `None` = no limit.
    pub(crate) workspace_connections: Option<NonZeroUsize>,
    /// Bytes the process may hold for requests and caches; resolved when `auto`.
    pub(crate) memory_bytes: u64,
    pub(crate) destinations_per_kind: u32,
    /// Which addresses destinations may have.
    pub(crate) outbound: OutboundPolicy,
    pub(crate) destinations: Vec<Destination>,
    /// Id or name of the destination that changes of other destinations' states are reported to.
    pub(crate) operations_destination: Option<String>,
    /// Where the gateway's own metrics are pushed by OTLP/HTTP, if anywhere.
    pub(crate) telemetry_otlp: Option<String>,
}

/// Reads all sections: the settings, unless a mistake left one out, and the schema of all that was asked for.
pub(super) fn read_config(
    root: &Node,
    data_dir_flag: Option<&Path>,
    sources: &dyn Sources,
    mistakes: &mut Mistakes,
) -> (Option<Config>, Json) {
    let mut top = Section::root(root, "Configuration of a tracecast gateway.", mistakes);

    let mut ingest = top.section("ingest", "Where events come in, and who may send them.", mistakes);
    let about = "OTLP/HTTP and JSON events.";
    let ingest_http = ingest.setting("http", about, address(), "127.0.0.1:4318", mistakes);
    let about = "OTLP/gRPC.";
    let ingest_grpc = ingest.setting("grpc", about, address(), "127.0.0.1:4317", mistakes);
    let about = "keys: only known keys may send. none: anybody, on loopback only.";
    let who = words([("keys", Auth::Keys), ("none", Auth::None)]);
    let auth = ingest.setting("auth", about, who, "keys", mistakes);
    let on_loopback = |address: Option<SocketAddr>| address.is_none_or(|a| a.ip().is_loopback());
    if auth == Some(Auth::None) && !(on_loopback(ingest_http) && on_loopback(ingest_grpc)) {
        let at = root.nearest("ingest.auth");
        let hint = "use `auth: keys`, or bind ingest.http and ingest.grpc to 127.0.0.1";
        mistakes.add(
            &at.origin,
            "ingest.auth",
            "`none` is only allowed on loopback".into(),
            Some(hint.into()),
        );
    }
    let about = "The region of events that name none.";
    let regions = words([
        ("global", Region::Global),
        ("europe", Region::Europe),
        ("us", Region::Us),
        ("eu", Region::Europe),
    ]);
    let region = ingest.setting("region", about, regions, "global", mistakes);
    let about = "Media embedded in messages: replaced by a marker, or kept.";
    let what = words([("strip", Media::Strip), ("keep", Media::Keep)]);
    let media = ingest.setting("media", about, what, "strip", mistakes);
    let about = "service.name of spans made from JSON events.";
    let service_name = ingest.setting("service_name", about, text(), "tracecast", mistakes);
    let keys = read_keys(&mut ingest, mistakes);
    top.end(ingest, mistakes);

    let mut admin = top.section("admin", "The control API, health and metrics.", mistakes);
    let about = "Where they are served.";
    let listen = admin.setting("listen", about, address(), "127.0.0.1:4320", mistakes);
    top.end(admin, mistakes);

    let about = "Directory of the log, the dead letters and the store.";
    let from_file = top.setting("data_dir", about, not_empty("is empty"), "./tracecast-data", mistakes);
    let data_dir = data_dir_flag.map(Path::to_owned).or(from_file.map(PathBuf::from));

    let mut log =
        top.section("log", "The log that accepted events are kept in until they are delivered.", mistakes);
    let about = "durable: synced before the answer. buffered: synced every 100 ms. memory: nothing on disk.";
    let when = words([
        ("durable", Durability::Durable),
        ("buffered", Durability::Buffered),
        ("memory", Durability::Memory),
    ]);
    let durability = log.setting("durability", about, when, "durable", mistakes);
    let about = "Size of the log: at least 256MiB; never more than 80 % of what the disk has free.";
    let at_least = size().then(|text, n| match n {
        n if n < 256 << 20 => Err(format!("`{text}` is too small: the log needs at least 256MiB")),
        n => Ok(n),
    });
    let log_max_bytes = log.setting("max_bytes", about, at_least, "10GiB", mistakes);
    let about = "How long an event is tried: 1m to 7d.";
    let within = age().then(|text, d| match d {
        d if d < Duration::from_secs(60) => Err(format!("`{text}` is too short: at least 1m")),
        d => at_most_a_week(text, d),
    });
    let log_max_age = log.setting("max_age", about, within, "24h", mistakes);
    let about = "At the cap. drop_oldest: the destination with the most pending bytes loses its oldest. drop_newest: it \
                 gets nothing new.";
    let whom = words([("drop_oldest", OnFull::DropOldest), ("drop_newest", OnFull::DropNewest)]);
    let log_on_full = log.setting("on_full", about, whom, "drop_oldest", mistakes);
    let about = "How long what everybody has stays for a backfill: 0 to 7d.";
    let retain = age().then(at_most_a_week).or_word("0", || Duration::ZERO);
    let log_retain = log.setting("retain", about, retain, "0", mistakes);
    top.end(log, mistakes);

    let mut limits = top.section("limits", "What one request, workspace or process may take.", mistakes);
    let about = "Size of a request body as sent: at most 1GiB.";
    let body_bytes = limits.setting("body_bytes", about, body_limit(), "20MiB", mistakes);
    let about = "Size of a request body after inflating: at most 1GiB.";
    let inflated_body_bytes = limits.setting("inflated_body_bytes", about, body_limit(), "64MiB", mistakes);
    let about = "What each workspace may send in a second, after inflating: at least 1KiB; 0 = no limit.";
    let rate = size().then(|text, n| match n {
        n @ 1..1024 => {
            Err(format!("`{text}` is too small: at least 1KiB, or 0 for no limit; found {n} bytes"))
        }
        n => Ok(NonZeroU64::new(n)),
    });
    let workspace_bytes_per_second = limits.setting("workspace_bytes_per_second", about, rate, "0", mistakes);
    let about = "Connections each workspace may hold to both ingest listeners; 0 = no limit.";
    let most = whole_number().then(|_, n| Ok(NonZeroUsize::new(n as usize)));
    let workspace_connections = limits.setting("workspace_connections", about, most, "8192", mistakes);
    let about = "What the process accounts for in memory: at least 64MiB; auto = 60 % of the cgroup's limit or of the \
                 machine's memory, at most 2GiB.";
    let memory = size().then(|text, n| match n {
        n if n < 64 << 20 => Err(format!("`{text}` is too small: at least 64MiB")),
        n => Ok(n),
    });
    let memory = memory.or_word("auto", crate::memory::auto_bytes);
    let memory_bytes = limits.setting("memory_bytes", about, memory, "auto", mistakes);
    let about = "Destinations of one kind that a workspace may create through the API.";
    let destinations_per_kind = limits.setting("destinations_per_kind", about, whole_number(), "5", mistakes);
    top.end(limits, mistakes);

    let mut outbound = top.section("outbound", "Which addresses destinations may have.", mistakes);
    let about = "Refuse private addresses: for a service of many tenants. Those of cloud metadata are refused anyway.";
    let deny = outbound.setting("deny_private_addresses", about, boolean(), "false", mistakes);
    let allow = read_allowed(&mut outbound, mistakes);
    top.end(outbound, mistakes);

    let mut operations =
        top.section("operations", "Reports of the gateway about its destinations.", mistakes);
    let about = "Id or name of the destination that is told of each change of another's state.";
    let name = not_empty("is empty: give the id or the name of a destination");
    let operations_destination = operations.optional("destination", about, name, mistakes);
    top.end(operations, mistakes);

    let mut telemetry = top.section("telemetry", "The gateway's own metrics.", mistakes);
    let about = "URL they are pushed to over OTLP/HTTP.";
    let telemetry_otlp = telemetry.optional("otlp", about, http_url(), mistakes);
    top.end(telemetry, mistakes);

    let destinations = match top.take("destinations", json!({ "$ref": "#/$defs/destinations" })) {
        Some(node) => {
            read_destinations(node, data_dir.as_deref().unwrap_or(Path::new("")), sources, mistakes)
        }
        None => Vec::new(),
    };
    let schema = top.finish(mistakes);

    let config = || {
        Some(Config {
            ingest_http: ingest_http?,
            ingest_grpc: ingest_grpc?,
            auth: auth?,
            region: region?,
            media: media?,
            service_name: service_name?,
            keys,
            admin: listen?,
            data_dir: data_dir?,
            durability: durability?,
            log_max_bytes: log_max_bytes?,
            log_max_age: log_max_age?,
            log_on_full: log_on_full?,
            log_retain: log_retain?,
            body_bytes: body_bytes?,
            inflated_body_bytes: inflated_body_bytes?,
            workspace_bytes_per_second: workspace_bytes_per_second?,
            workspace_connections: workspace_connections?,
            memory_bytes: memory_bytes?,
            destinations_per_kind: destinations_per_kind?,
            outbound: OutboundPolicy { deny_private_addresses: deny?, allow },
            destinations,
            operations_destination,
            telemetry_otlp,
        })
    };
    (config(), schema)
}

fn at_most_a_week(text: &str, age: Duration) -> Result<Duration, String> {
    match age {
        d if d > Duration::from_secs(7 * 86_400) => Err(format!("`{text}` is too long: at most 7d")),
        d => Ok(d),
    }
}

fn body_limit() -> Form<u64> {
    size().then(|text, n| match n {
        0 => Err("must be more than 0".into()),
        n if n > 1 << 30 => Err(format!("`{text}` is too large: at most 1GiB")),
        n => Ok(n),
    })
}

fn not_empty(otherwise: &'static str) -> Form<String> {
    text().then(move |text, _| match text.trim() {
        "" => Err(otherwise.into()),
        trimmed => Ok(trimmed.to_owned()),
    })
}

fn list_of(about: &str, items: Json) -> Json {
    json!({ "description": about, "type": ["array", "null"], "items": items })
}

/// `outbound.allow`: a list of texts.
fn read_allowed(outbound: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<String> {
    let about = "Names, addresses or networks that may be called all the same.";
    let path = "outbound.allow";
    let Some(node) = outbound.take("allow", list_of(about, json!({ "type": "string" }))) else {
        return Vec::new();
    };
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

fn read_keys(ingest: &mut Section<'_>, mistakes: &mut Mistakes) -> Vec<FileKey> {
    // An item that is not there has the shape of those that are.
    let absent = Node { origin: Origin::File { line: 1, column: 1 }, value: Value::Null };
    let (_, mut item) = read_key(&absent, &mut Mistakes::default());
    item["oneOf"] = json!([{ "required": ["key"] }, { "required": ["sha256"] }]);
    let about = "Keys that may send, besides those of the API.";
    let Some(node) = ingest.take("keys", list_of(about, item)) else { return Vec::new() };
    let Value::List(items) = &node.value else {
        mistakes.add(&node.origin, "ingest.keys", format!("must be a list, not {}", node.value.kind()), None);
        return Vec::new();
    };
    let mut keys = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let before = mistakes.list.len();
        let (key, _) = read_key(item, mistakes);
        for mistake in &mut mistakes.list[before..] {
            let below = if mistake.path.is_empty() { "" } else { "." };
            mistake.path = format!("ingest.keys[{i}]{below}{}", mistake.path);
        }
        keys.extend(key);
    }
    keys
}

/// An item of `ingest.keys`, unless it has mistakes, and its schema.
fn read_key(item: &Node, mistakes: &mut Mistakes) -> (Option<FileKey>, Json) {
    let mut section = Section::root(item, "A key, as `key` or as `sha256`.", mistakes);
    let name = section.required("name", "What filters and the books call it.", text(), mistakes);
    let key = section.optional("key", "The key itself.", text(), mistakes);
    let hash = section.optional("sha256", "Its SHA-256 in hexadecimal, instead of it.", sha256(), mistakes);
    let about = "Id or slug of the workspace its events belong to; by default the default workspace.";
    let workspace = section.optional("workspace", about, text(), mistakes);
    let about = "Whose key and workspace its events may say they are of.";
    let whose = words([
        ("none", CanAssert::None),
        ("own_workspace", CanAssert::OwnWorkspace),
        ("any_workspace", CanAssert::AnyWorkspace),
    ]);
    let can_assert = section.setting("can_assert_identity", about, whose, "none", mistakes);
    let schema = section.finish(mistakes);
    let sha256 = match (key, hash) {
        (Some(key), None) => Some(Sha256::digest(key.as_bytes()).into()),
        (None, Some(hash)) => Some(hash),
        _ => {
            let hint = "give the secret as `key` or its SHA-256 as `sha256`, not both";
            mistakes.add(&item.origin, "", "needs `key` or `sha256`".into(), Some(hint.into()));
            None
        }
    };
    let key = || Some(FileKey { name: name?, sha256: sha256?, workspace, can_assert: can_assert? });
    (key(), schema)
}
