//! The settings of the file: section by section, typed, with their defaults.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tracecast_control::FileKey;
use tracecast_destination::{Destination, Region};
use tracecast_ingest::{Auth, Media};
use tracecast_log::{Durability, OnFull};
use tracecast_rules::CanAssert;
use tracecast_sinks::OutboundPolicy;

use super::Mistakes;
use super::destinations::read_destinations;
use super::read::{Section, address, boolean, bytes, duration, word};
use super::substitute::Sources;
use super::tree::{Node, Value};

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

/// Reads all sections; what is wrong is told by its default.
pub(super) fn read_config(
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
    let workspace_bytes_per_second =
        limits.setting("workspace_bytes_per_second", None, mistakes, |t| match bytes(t)? {
            n @ 1..1024 => {
                Err(format!("`{t}` is too small: at least 1KiB, or 0 for no limit; found {n} bytes"))
            }
            n => Ok(NonZeroU64::new(n)),
        });
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

    let mut operations = top.section("operations", mistakes);
    let operations_destination = operations.setting("destination", None, mistakes, |t| match t.trim() {
        "" => Err("is empty: give the id or the name of a destination".into()),
        name => Ok(Some(name.to_owned())),
    });
    operations.finish(mistakes);

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
        workspace_bytes_per_second,
        memory_bytes,
        destinations_per_kind,
        outbound: OutboundPolicy { deny_private_addresses, allow },
        destinations,
        operations_destination,
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
