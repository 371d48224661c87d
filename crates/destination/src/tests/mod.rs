//! Rules of the contract, over all 17 kinds where they hold for all.
mod body;
mod fields;
mod filter;
mod kinds;
mod patch;
mod properties;
mod rate_limit;
mod retry;
mod s3;
mod secrets;
mod signing;
mod urls;

use jiff::Timestamp;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, Issue, Kind, ManagedBy};

/// What the contract says of one kind: written from the table of broadcast-contract.md 2.
struct Case {
    kind: Kind,
    /// The required keys only.
    minimal: Json,
    /// What the defaults add to `minimal`.
    defaults: Json,
    /// Every key a caller may send.
    full: Json,
    /// Keys whose values are secret.
    secret: &'static [&'static str],
}

fn case(kind: Kind) -> Case {
    let (minimal, defaults, full, secret): (Json, Json, Json, &'static [&'static str]) = match kind {
        Kind::Arize => (
            json!({"apiKey": "arize-api-key-0001", "spaceKey": "arize-space-key-01", "modelId": "m"}),
            json!({"baseUrl": "https://otlp.arize.com"}),
            json!({"apiKey": "arize-api-key-0001", "spaceKey": "arize-space-key-01", "modelId": "m",
                "baseUrl": "https://otlp.eu-west-1a.arize.com"}),
            &["apiKey", "spaceKey"],
        ),
        Kind::Braintrust => (
            json!({"apiKey": "bt-api-key-00001", "projectId": "p-1"}),
            json!({"baseUrl": "https://api.braintrust.dev"}),
            json!({"apiKey": "bt-api-key-00001", "projectId": "p-1", "baseUrl": "https://api-eu.braintrust.dev/"}),
            &["apiKey"],
        ),
        Kind::Clickhouse => (
            json!({"host": "http://localhost:8123", "database": "default", "username": "default",
                "password": "clickhouse pässwörd 1"}),
            json!({"table": "OPENROUTER_TRACES", "shouldIncludeCacheWriteTokens": false}),
            json!({"host": "x.clickhouse.cloud:8443", "database": "d", "username": "u",
                "password": "short", "table": "db.t", "shouldIncludeCacheWriteTokens": true}),
            &["password"],
        ),
        Kind::Datadog => (
            json!({"apiKey": "datadog-api-key-01", "mlApp": "app"}),
            json!({"url": "https://api.datadoghq.com"}),
            json!({"apiKey": "datadog-api-key-01", "mlApp": "app", "url": "https://api.us5.datadoghq.com"}),
            &["apiKey"],
        ),
        Kind::Grafana => (
            json!({"apiKey": "glc_0123456789", "instanceId": "123456"}),
            json!({"baseUrl": "https://otlp-gateway-prod-us-west-0.grafana.net"}),
            json!({"apiKey": "glc_0123456789", "instanceId": "123456",
                "baseUrl": "https://otlp-gateway-prod-eu-west-0.grafana.net/otlp"}),
            &["apiKey"],
        ),
        Kind::Langfuse => (
            json!({"publicKey": "pk-lf-0000-1111-AbEfGh", "secretKey": "sk-lf-2222-3333-CdAbCd"}),
            json!({"baseUrl": "https://us.cloud.langfuse.com"}),
            json!({"publicKey": "pk-lf-0000-1111-AbEfGh", "secretKey": "sk-lf-2222-3333-CdAbCd",
                "baseUrl": "http://127.0.0.1:3000/"}),
            &["publicKey", "secretKey"],
        ),
        Kind::Langsmith => (
            json!({"apiKey": "lsv2_pt_0123456789"}),
            json!({"endpoint": "https://api.smith.langchain.com", "project": "main"}),
            json!({"apiKey": "lsv2_pt_0123456789", "endpoint": "https://eu.api.smith.langchain.com",
                "project": "p", "workspaceId": "w"}),
            &["apiKey"],
        ),
        Kind::Newrelic => (
            json!({"licenseKey": "newrelic-license-NRAL"}),
            json!({"region": "us"}),
            json!({"licenseKey": "newrelic-license-NRAL", "region": "eu", "baseUrl": "http://localhost:1"}),
            &["licenseKey"],
        ),
        Kind::Opik => (
            json!({"apiKey": "opik_0123456789", "workspace": "w", "projectName": "p"}),
            json!({}),
            json!({"apiKey": "opik_0123456789", "workspace": "w", "projectName": "p",
                "baseUrl": "http://localhost:5173/api"}),
            &["apiKey"],
        ),
        Kind::OtelCollector => (
            json!({"endpoint": "http://localhost:4318"}),
            json!({}),
            json!({"endpoint": "https://otel.example.com:4318/v1/traces?tenant=a"}),
            &[],
        ),
        Kind::Posthog => (
            json!({"apiKey": "phc_0123456789"}),
            json!({"endpoint": "https://us.i.posthog.com"}),
            json!({"apiKey": "phc_0123456789", "endpoint": "https://eu.i.posthog.com"}),
            &["apiKey"],
        ),
        Kind::Ramp => (
            json!({"apiKey": "ramp-api-key-0001"}),
            json!({"baseUrl": "https://api.ramp.com/developer/v1/ai-usage/openrouter"}),
            json!({"apiKey": "ramp-api-key-0001", "baseUrl": "https://demo-api.ramp.com/x"}),
            &["apiKey"],
        ),
        Kind::S3 => (
            json!({"bucketName": "b", "accessKeyId": "AKIA0123456789ABCDEF",
                "secretAccessKey": "s3/secret+0123456789="}),
            json!({"authMode": "access_keys", "prefix": "openrouter-traces",
                "pathTemplate": "{prefix}/{date}", "objectLayout": "per_trace"}),
            json!({"bucketName": "b", "authMode": "access_keys", "accessKeyId": "AKIA0123456789ABCDEF",
                "secretAccessKey": "s3/secret+0123456789=", "sessionToken": "session-token-0001",
                "roleArn": "arn:aws:iam::123456789012:role/r", "provider": "cloudflare_r2",
                "region": "auto", "endpoint": "https://acct.r2.cloudflarestorage.com", "prefix": "",
                "pathTemplate": "{prefix}/{year}/{month}/{day}/{apiKeyName}/{date}",
                "objectLayout": "jsonl"}),
            &["accessKeyId", "secretAccessKey", "sessionToken"],
        ),
        Kind::Sentry => (
            json!({"otlpEndpoint": "https://o1.ingest.us.sentry.io/api/456/integration/otlp/v1/traces",
                "dsn": "https://0123456789abcdef@o1.ingest.us.sentry.io/456"}),
            json!({}),
            json!({"otlpEndpoint": "https://sentry.example.com/prefix/api/7/integration/otlp/v1/traces/",
                "dsn": "https://key:oldsecret@sentry.example.com:9000/prefix/7/"}),
            &["dsn"],
        ),
        Kind::Snowflake => (
            json!({"account": "abc12345.us-east-1", "token": "snowflake-token-1"}),
            json!({"database": "SNOWFLAKE_LEARNING_DB", "schema": "PUBLIC", "table": "OPENROUTER_TRACES",
                "warehouse": "COMPUTE_WH", "shouldIncludeCacheWriteTokens": false}),
            json!({"account": "org-my_account", "token": "snowflake-token-1", "database": "d", "schema": "s",
                "table": "t", "warehouse": "w", "shouldIncludeCacheWriteTokens": true,
                "baseUrl": "https://proxy.example.com"}),
            &["token"],
        ),
        Kind::Weave => (
            json!({"apiKey": "wandb-api-key-0001", "entity": "e", "project": "p"}),
            json!({"baseUrl": "https://trace.wandb.ai"}),
            json!({"apiKey": "wandb-api-key-0001", "entity": "e", "project": "p",
                "baseUrl": "https://sub.wandb.io/traces"}),
            &["apiKey"],
        ),
        Kind::Webhook => (
            json!({"url": "https://hooks.example.com/in"}),
            json!({"method": "POST"}),
            json!({"url": "http://hooks.example.com/in", "method": "PUT",
                "signingSecret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}),
            &["signingSecret"],
        ),
    };
    Case { kind, minimal, defaults, full, secret }
}

fn cases() -> impl Iterator<Item = Case> {
    Kind::ALL.into_iter().map(case)
}

const ID: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);

fn now() -> Timestamp {
    "2026-09-05T08:24:27.107456789Z".parse().unwrap()
}

fn defaults(managed_by: ManagedBy) -> CreateDefaults {
    CreateDefaults { id: ID, workspace_id: DEFAULT_WORKSPACE_ID, managed_by, now: now() }
}

fn create(body: &Json) -> Result<Destination, Vec<Issue>> {
    Destination::create(body, defaults(ManagedBy::Api))
}

fn body(kind: Kind, config: &Json) -> Json {
    json!({"type": kind.as_str(), "name": "n", "config": config})
}

#[track_caller]
fn created(kind: Kind, config: &Json) -> Destination {
    create(&body(kind, config)).unwrap_or_else(|issues| panic!("{kind}: {issues:?}"))
}

/// The issues of a config that must be refused.
#[track_caller]
fn refused(kind: Kind, config: &Json) -> Vec<Issue> {
    create(&body(kind, config)).expect_err("the config must be refused")
}

/// Exactly one issue, at `path`.
#[track_caller]
fn sole<T>(result: Result<T, Vec<Issue>>, path: &str) -> Issue {
    let issues = result.err().expect("must be refused");
    assert_eq!(issues.len(), 1, "{issues:?}");
    let issue = issues.into_iter().next().unwrap();
    assert_eq!(issue.path, path, "{issue}");
    issue
}

/// `object` with the members of `more`.
fn with(object: &Json, more: Json) -> Json {
    let mut merged = object.as_object().unwrap().clone();
    merged.extend(more.as_object().unwrap().clone());
    Json::Object(merged)
}

fn without(object: &Json, key: &str) -> Json {
    let mut rest = object.as_object().unwrap().clone();
    rest.remove(key);
    Json::Object(rest)
}

/// Everything of a destination, secrets included, but not the time of the last change.
fn whole(destination: &Destination) -> (Json, Json) {
    let (plain, secrets) = destination.to_stored();
    (without(&plain, "updated_at"), secrets)
}
