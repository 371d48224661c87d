//! Tests of the control plane through its router, on a real store in a temporary directory.

mod api_errors;
mod destinations;
mod files;
mod groups;
mod keys;
mod letters;
mod once;
mod openapi;
mod overload;
mod preview;
mod store;
mod usage;
mod workspaces;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value as Json, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, Issue, Kind, ManagedBy};
use tracecast_rules::Snapshot;
use uuid::Uuid;

use crate::futures_like::BoxFuture;
use crate::{
    Control, DestinationChange, Error, FileKey, LetterFilter, Letters, Options, Preview, Refused, Runtime,
};

pub(crate) const MANAGEMENT_KEY: &str = "management-key-of-the-operator-0123456789";
pub(crate) const DESTINATIONS: &str = "/api/v1/observability/destinations";

/// A runtime that remembers what it was told.
#[derive(Default)]
pub(crate) struct FakeRuntime {
    slots: Mutex<HashMap<Uuid, u32>>,
    /// Active and retired ids after the last `apply`.
    pub(crate) applied: Mutex<(BTreeSet<Uuid>, BTreeSet<Uuid>)>,
    /// How many changes it was told in all.
    pub(crate) told: AtomicUsize,
    /// How often it was told any.
    pub(crate) applies: AtomicUsize,
    pub(crate) paused: Mutex<BTreeSet<Uuid>>,
    pub(crate) resumed: Mutex<Vec<Uuid>>,
    pub(crate) test_fails: AtomicBool,
    pub(crate) apply_panics: AtomicBool,
    pub(crate) stats_panic: AtomicBool,
    pub(crate) apply_errors: Mutex<Vec<(Uuid, String)>>,
    pub(crate) refused: Mutex<Vec<Issue>>,
    pub(crate) refused_events: Mutex<Vec<Issue>>,
    pub(crate) not_ready: Mutex<Vec<String>>,
    /// The filter of the last call that deletes or replays.
    pub(crate) asked: Mutex<Option<LetterFilter>>,
    /// What the tail shows; `None` = stopping.
    pub(crate) lines: Mutex<Option<tokio::sync::broadcast::Sender<Arc<Json>>>>,
}

fn letter(id: u64) -> Json {
    json!({
        "id": id, "at": "2026-01-01T00:00:00.000Z", "received_at": "2026-01-01T00:00:00.000Z", "reason": "rejected",
        "status": 400, "excerpt": "no", "attempts": 1, "spans": 1, "trace_ids": [],
    })
}

impl Runtime for FakeRuntime {
    fn slot(&self, id: Uuid) -> u32 {
        let mut slots = self.slots.lock().unwrap();
        let next = u32::try_from(slots.len()).unwrap();
        *slots.entry(id).or_insert(next)
    }

    fn apply(&self, changes: &[DestinationChange]) -> Vec<(Uuid, String)> {
        assert!(!self.apply_panics.load(Ordering::SeqCst), "apply panics");
        let (active, retired) = &mut *self.applied.lock().unwrap();
        self.told.fetch_add(changes.len(), Ordering::SeqCst);
        self.applies.fetch_add(1, Ordering::SeqCst);
        for change in changes {
            let id = match change {
                DestinationChange::Active(_, d)
                | DestinationChange::Paused(_, d)
                | DestinationChange::Retired(_, d) => d.id,
                DestinationChange::Deleted(id) => *id,
            };
            active.remove(&id);
            retired.remove(&id);
            match change {
                DestinationChange::Active(..) => active.insert(id),
                DestinationChange::Paused(..) => active.insert(id) && self.paused.lock().unwrap().insert(id),
                DestinationChange::Retired(..) => retired.insert(id),
                DestinationChange::Deleted(_) => false,
            };
        }
        self.apply_errors.lock().unwrap().clone()
    }

    fn check(&self, _: &Destination) -> Vec<Issue> {
        self.refused.lock().unwrap().clone()
    }

    fn stats(&self, _: Uuid) -> Map<String, Json> {
        assert!(!self.stats_panic.load(Ordering::SeqCst), "stats panic");
        let mut fields = Map::new();
        fields.insert("state".to_owned(), "degraded".into());
        fields.insert("selected".to_owned(), 7.into());
        fields
    }

    fn gateway_stats(&self) -> Map<String, Json> {
        let mut fields = Map::new();
        fields.insert("accepted".to_owned(), 9.into());
        fields
    }

    fn test(&self, _: Arc<Destination>) -> BoxFuture<Json> {
        let ok = !self.test_fails.load(Ordering::SeqCst);
        let diagnosis = if ok { "ok" } else { "auth" };
        Box::pin(async move {
            json!({ "ok": ok, "status": 200, "url": "http://127.0.0.1:9", "latency_ms": 1, "diagnosis": diagnosis,
                    "hint": null })
        })
    }

    fn preview(&self, preview: &Preview) -> Result<Json, Vec<Issue>> {
        let refused = self.refused_events.lock().unwrap().clone();
        if !refused.is_empty() {
            return Err(refused);
        }
        Ok(json!({
            "name": preview.destination.name, "event": preview.event, "broadcast": preview.is_broadcast_enabled,
        }))
    }

    fn pause(&self, id: Uuid) -> bool {
        self.paused.lock().unwrap().insert(id);
        true
    }

    fn resume(&self, id: Uuid) -> bool {
        self.paused.lock().unwrap().remove(&id);
        self.resumed.lock().unwrap().push(id);
        true
    }

    fn dead_letters(
        &self,
        _: Uuid,
        filter: &LetterFilter,
        offset: usize,
        limit: usize,
    ) -> Result<Letters, Refused> {
        let known = ["rejected", "too_large", "unencodable"];
        if filter.reason.as_ref().is_some_and(|reason| !known.contains(&reason.as_str())) {
            return Err(Refused::Invalid(vec![Issue {
                path: "reason".into(),
                message: "unknown".into(),
                hint: None,
            }]));
        }
        let ids = (0..5u64).filter(|id| filter.id.is_none_or(|wanted| wanted == *id));
        let all: Vec<Json> = ids.map(letter).collect();
        let mut by_reason = Map::new();
        by_reason.insert("rejected".to_owned(), all.len().into());
        let total = all.len() as u64;
        let page = all.into_iter().skip(offset).take(limit).collect();
        Ok(Letters { page, total, by_reason, replaying: 0 })
    }

    fn dead_letter(&self, _: Uuid, id: u64) -> Option<Json> {
        (id < 5).then(|| letter(id))
    }

    fn delete_dead_letters(&self, _: Uuid, filter: &LetterFilter) -> Result<u64, Refused> {
        *self.asked.lock().unwrap() = Some(filter.clone());
        Ok(3)
    }

    fn replay(&self, _: Uuid, filter: LetterFilter) -> BoxFuture<Result<Json, Refused>> {
        *self.asked.lock().unwrap() = Some(filter);
        Box::pin(async { Ok(json!({ "matched": 2, "requeued": 2, "waiting": 0 })) })
    }

    fn backfill(&self, _: Uuid, from_unix_nano: u64) -> BoxFuture<Result<Json, Refused>> {
        Box::pin(async move {
            match from_unix_nano {
                0 => Err(Refused::Unavailable("the log is full".to_owned())),
                _ => Ok(json!({
                    "oldest_at": null, "records": 0, "requeued": 0, "complete": true, "next_from": null,
                })),
            }
        })
    }

    fn event(&self, trace_id: [u8; 16]) -> Json {
        let trace_id: String = trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "trace_id": trace_id, "complete": false, "received_at": null, "destinations": [] })
    }

    fn tail(&self) -> Option<tokio::sync::broadcast::Receiver<Arc<Json>>> {
        Some(self.lines.lock().unwrap().as_ref()?.subscribe())
    }

    fn metrics(&self) -> String {
        "tracecast_build_info 1\n".to_owned()
    }

    fn not_ready(&self) -> Vec<String> {
        self.not_ready.lock().unwrap().clone()
    }
}

/// An open control plane in a directory of its own.
pub(crate) struct Gateway {
    pub(crate) dir: TempDir,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) control: Arc<Control>,
    router: Router,
}

impl Gateway {
    pub(crate) async fn new() -> Gateway {
        Gateway::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        Gateway::try_in(dir, change).await.unwrap()
    }

    async fn try_in(dir: TempDir, change: impl FnOnce(&mut Options)) -> Result<Gateway, Error> {
        let mut options = options(dir.path());
        change(&mut options);
        let runtime = Arc::new(FakeRuntime::default());
        let opened = Control::open(options, Arc::clone(&runtime) as Arc<dyn Runtime>).await?;
        Ok(Gateway { dir, runtime, router: Arc::clone(&opened.control).router(), control: opened.control })
    }

    /// Stops and starts again on the same directory.
    pub(crate) async fn restart(self) -> Gateway {
        self.restart_with(|_| {}).await.unwrap()
    }

    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Options)) -> Result<Gateway, Error> {
        let dir = self.stop().await;
        Gateway::try_in(dir, change).await
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.control.close().await;
        self.dir
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.control.snapshot().load_full()
    }

    pub(crate) async fn raw(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn call_as(
        &self,
        key: Option<&str>,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> (StatusCode, Json) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = body.map_or_else(Body::empty, |text| Body::from(text.to_owned()));
        let response = self.raw(request.body(body).unwrap()).await;
        let status = response.status();
        assert_eq!(response.headers()["content-type"], "application/json", "{method} {path}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let json: Json = serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {bytes:?}"));
        if !status.is_success() {
            assert_eq!(json["error"]["code"], u64::from(status.as_u16()), "{json}");
            assert!(json["error"]["message"].is_string(), "{json}");
        }
        openapi::check_answer(method, path, status.as_u16(), &json);
        (status, json)
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Json) {
        self.call_as(Some(MANAGEMENT_KEY), "GET", path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (StatusCode, Json) {
        self.call_as(Some(MANAGEMENT_KEY), "DELETE", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Json) -> (StatusCode, Json) {
        self.call_as(Some(MANAGEMENT_KEY), "POST", path, Some(&body.to_string())).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Json) -> (StatusCode, Json) {
        self.call_as(Some(MANAGEMENT_KEY), "PATCH", path, Some(&body.to_string())).await
    }

    /// A GET that succeeds.
    pub(crate) async fn ok(&self, path: &str) -> Json {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A POST that creates; its `data`.
    pub(crate) async fn created(&self, path: &str, body: &Json) -> Json {
        let (status, body) = self.post(path, body).await;
        assert_eq!(status, 201, "{path}: {body}");
        body["data"].clone()
    }

    /// Creates an ordinary key and returns the secret.
    pub(crate) async fn ordinary_key(&self) -> String {
        let (status, body) = self.post("/api/v1/keys", &json!({ "name": "app" })).await;
        assert_eq!(status, 201, "{body}");
        text(&body["key"])
    }
}

pub(crate) fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_owned(),
        management_key: Some(SecretString::from(MANAGEMENT_KEY)),
        master_key: None,
        file_destinations: Vec::new(),
        file_keys: Vec::new(),
        destinations_per_kind: 5,
        max_body_bytes: 1 << 20,
    }
}

pub(crate) fn text(value: &Json) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

pub(crate) fn id_of(object: &Json) -> Uuid {
    text(&object["id"]).parse().unwrap()
}

pub(crate) fn path_of(object: &Json) -> String {
    format!("{DESTINATIONS}/{}", text(&object["id"]))
}

pub(crate) fn message(body: &Json) -> String {
    text(&body["error"]["message"])
}

pub(crate) fn webhook(name: &str) -> Json {
    json!({ "type": "webhook", "name": name, "config": { "url": "https://hooks.example.com/in" } })
}

pub(crate) fn langfuse(name: &str) -> Json {
    json!({ "type": "langfuse", "name": name, "config": {
        "publicKey": "pk-lf-public-key-canary-EfGh", "secretKey": "sk-lf-secret-key-canary-AbCd" } })
}

pub(crate) fn file_destination(name: &str, body: Json) -> Destination {
    let mut body = body;
    body["name"] = name.into();
    let kind = Kind::parse(body["type"].as_str().unwrap()).unwrap();
    let defaults = CreateDefaults {
        id: tracecast_destination::file_destination_id(DEFAULT_WORKSPACE_ID, kind, name),
        workspace_id: DEFAULT_WORKSPACE_ID,
        managed_by: ManagedBy::File,
        now: jiff::Timestamp::now(),
    };
    Destination::create(&body, defaults).unwrap()
}

pub(crate) fn file_key(name: &str, secret: &str) -> FileKey {
    FileKey {
        name: name.to_owned(),
        sha256: crate::hex::sha256(secret),
        workspace: None,
        can_assert: tracecast_rules::CanAssert::None,
    }
}

/// A complete create config for each kind, with secrets that are easy to search for, and which fields those are.
pub(crate) fn configs() -> BTreeMap<Kind, Json> {
    let secret = |name: &str| format!("canary-{name}-0123456789-tail");
    let table = [
        (Kind::Arize, json!({ "apiKey": secret("arize"), "spaceKey": secret("space"), "modelId": "m" })),
        (Kind::Braintrust, json!({ "apiKey": secret("braintrust"), "projectId": "p" })),
        (
            Kind::Clickhouse,
            json!({ "host": "https://ch.example.com:8443", "database": "default", "username": "default",
                    "password": secret("clickhouse") }),
        ),
        (Kind::Datadog, json!({ "apiKey": secret("datadog"), "mlApp": "app" })),
        (Kind::Grafana, json!({ "apiKey": secret("grafana"), "instanceId": "123456" })),
        (Kind::Langfuse, json!({ "publicKey": secret("lf-public"), "secretKey": secret("lf-secret") })),
        (Kind::Langsmith, json!({ "apiKey": secret("langsmith") })),
        (Kind::Newrelic, json!({ "licenseKey": secret("newrelic") })),
        (Kind::Opik, json!({ "apiKey": secret("opik"), "workspace": "w", "projectName": "p" })),
        (
            Kind::OtelCollector,
            json!({ "endpoint": "https://otel.example.com/v1/traces", "headers": { "x-api-key": secret("header") } }),
        ),
        (Kind::Posthog, json!({ "apiKey": secret("posthog") })),
        (Kind::Ramp, json!({ "apiKey": secret("ramp") })),
        (
            Kind::S3,
            json!({ "bucketName": "traces-bucket", "accessKeyId": secret("s3-id"), "secretAccessKey": secret("s3"),
                    "region": "eu-central-1" }),
        ),
        (
            Kind::Sentry,
            json!({ "otlpEndpoint": "https://o1.ingest.sentry.io/api/2/integration/otlp/v1/traces",
                    "dsn": "https://canarysentrykey0123456789@o1.ingest.sentry.io/2" }),
        ),
        (Kind::Snowflake, json!({ "account": "abc12345.us-east-1", "token": secret("snowflake") })),
        (Kind::Weave, json!({ "apiKey": secret("weave"), "entity": "team", "project": "p" })),
        (
            Kind::Webhook,
            json!({ "url": "https://hooks.example.com/in", "headers": { "authorization": secret("webhook") } }),
        ),
    ];
    table.into_iter().collect()
}

/// The secret-looking strings of a config, at any depth.
pub(crate) fn canaries(value: &Json) -> Vec<String> {
    match value {
        Json::String(text) if text.contains("canary") => vec![text.clone()],
        Json::Array(items) => items.iter().flat_map(canaries).collect(),
        Json::Object(fields) => fields.values().flat_map(canaries).collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn expose(secret: &Option<SecretString>) -> &str {
    secret.as_ref().unwrap().expose_secret()
}
