//! Effective URLs: what is called for what was entered.
use super::*;
use crate::{Config, DatadogConfig};

fn target(kind: Kind, more: Json) -> String {
    created(kind, &with(&case(kind).minimal, more)).config.target_url().unwrap()
}

#[test]
fn default_targets_are_those_of_the_vendors() {
    for (kind, url) in [
        (Kind::Arize, "https://otlp.arize.com/v1/traces"),
        (Kind::Braintrust, "https://api.braintrust.dev/v1/project_logs/p-1/insert"),
        (Kind::Clickhouse, "http://localhost:8123"),
        (Kind::Datadog, "https://api.datadoghq.com/api/intake/llm-obs/v1/trace/spans"),
        (Kind::Grafana, "https://otlp-gateway-prod-us-west-0.grafana.net/otlp/v1/traces"),
        (Kind::Langfuse, "https://us.cloud.langfuse.com/api/public/otel/v1/traces"),
        (Kind::Langsmith, "https://api.smith.langchain.com/otel/v1/traces"),
        (Kind::Newrelic, "https://otlp.nr-data.net/v1/traces"),
        (Kind::Opik, "https://www.comet.com/opik/api/v1/private/traces/batch"),
        (Kind::OtelCollector, "http://localhost:4318/v1/traces"),
        (Kind::Posthog, "https://us.i.posthog.com/i/v0/ai/batch/"),
        (Kind::Ramp, "https://api.ramp.com/developer/v1/ai-usage/openrouter/v1/traces"),
        (Kind::Sentry, "https://o1.ingest.us.sentry.io/api/456/integration/otlp/v1/traces"),
        (Kind::Snowflake, "https://abc12345.us-east-1.snowflakecomputing.com"),
        (Kind::Weave, "https://trace.wandb.ai/v2/e/p/calls/complete"),
        (Kind::Webhook, "https://hooks.example.com/in"),
    ] {
        assert_eq!(target(kind, json!({})), url);
    }
    assert_eq!(created(Kind::S3, &case(Kind::S3).minimal).config.target_url(), None);
}

#[test]
fn base_urls_lose_slashes_and_what_would_be_added() {
    for (kind, key, entered, url) in [
        (Kind::Langfuse, "baseUrl", "http://h/", "http://h/api/public/otel/v1/traces"),
        (Kind::Langfuse, "baseUrl", "http://h/x", "http://h/x/api/public/otel/v1/traces"),
        (Kind::Langfuse, "baseUrl", "http://h/api/public/otel", "http://h/api/public/otel/v1/traces"),
        (
            Kind::Langfuse,
            "baseUrl",
            "http://h/api/public/otel/v1/traces",
            "http://h/api/public/otel/v1/traces",
        ),
        (Kind::Grafana, "baseUrl", "http://h/otlp", "http://h/otlp/v1/traces"),
        (Kind::Grafana, "baseUrl", "http://h/otlp/v1/traces/", "http://h/otlp/v1/traces"),
        (Kind::Langsmith, "endpoint", "http://h/api/v1", "http://h/api/v1/otel/v1/traces"),
        (Kind::Langsmith, "endpoint", "http://h/otel/", "http://h/otel/v1/traces"),
        (Kind::Arize, "baseUrl", "http://h/v1", "http://h/v1/traces"),
        (Kind::Newrelic, "region", "eu", "https://otlp.eu01.nr-data.net/v1/traces"),
        (Kind::Newrelic, "baseUrl", "http://h/v1/traces", "http://h/v1/traces"),
        (Kind::Ramp, "baseUrl", "http://h/", "http://h/v1/traces"),
        (
            Kind::Sentry,
            "otlpEndpoint",
            "http://h/api/456/integration/otlp/v1/traces/",
            "http://h/api/456/integration/otlp/v1/traces",
        ),
        (
            Kind::Sentry,
            "otlpEndpoint",
            "http://h/api/456/integration/otlp",
            "http://h/api/456/integration/otlp/v1/traces",
        ),
        (Kind::Datadog, "url", "http://h/", "http://h/api/intake/llm-obs/v1/trace/spans"),
        (Kind::Braintrust, "baseUrl", "http://h/v1", "http://h/v1/project_logs/p-1/insert"),
        (
            Kind::Braintrust,
            "projectId",
            "a b/c",
            "https://api.braintrust.dev/v1/project_logs/a%20b%2Fc/insert",
        ),
        (Kind::Opik, "baseUrl", "http://h:5173/api/", "http://h:5173/api/v1/private/traces/batch"),
        (
            Kind::Weave,
            "baseUrl",
            "https://s.wandb.io/traces",
            "https://s.wandb.io/traces/v2/e/p/calls/complete",
        ),
        (Kind::Posthog, "endpoint", "https://app.posthog.com", "https://us.i.posthog.com/i/v0/ai/batch/"),
        (Kind::Posthog, "endpoint", "https://eu.posthog.com/", "https://eu.i.posthog.com/i/v0/ai/batch/"),
        (Kind::Posthog, "endpoint", "http://h/i/v0/ai/batch/", "http://h/i/v0/ai/batch/"),
        (Kind::Clickhouse, "host", "x.clickhouse.cloud:8443", "https://x.clickhouse.cloud:8443"),
        (Kind::Clickhouse, "host", "h:8123/", "http://h:8123"),
        (Kind::Snowflake, "account", "My_Org-my_account", "https://my-org-my-account.snowflakecomputing.com"),
        (Kind::Snowflake, "account", "abc.snowflakecomputing.com", "https://abc.snowflakecomputing.com"),
        (Kind::Snowflake, "baseUrl", "http://h/", "http://h"),
        (Kind::OtelCollector, "endpoint", "http://h/v1", "http://h/v1/traces"),
        (Kind::OtelCollector, "endpoint", "http://h/ingest", "http://h/ingest"),
        (Kind::Webhook, "url", "http://h", "http://h"),
    ] {
        let more = json!({ key: entered });
        assert_eq!(target(kind, more.clone()), url, "{kind} {entered}");
        let shown = created(kind, &with(&case(kind).minimal, more)).to_json();
        assert_eq!(shown["config"][key], entered, "returned as entered");
    }
}

#[test]
fn every_url_field_refuses_what_is_no_http_url() {
    for case in cases() {
        for (key, value) in case.full.as_object().unwrap() {
            let is_url = value.as_str().is_some_and(|text| text.starts_with("http")) && key != "dsn";
            if !is_url {
                continue;
            }
            for bad in ["ftp://h/x", "http://", "http://h h", "javascript:1", "http://h/#f", "/v1"] {
                let config = with(&case.full, json!({ key: bad }));
                let issue = sole(create(&body(case.kind, &config)), &format!("config.{key}"));
                assert!(!issue.message.is_empty());
            }
        }
    }
}

#[test]
fn further_urls_of_single_kinds() {
    let config = |kind| created(kind, &case(kind).full).config;
    match config(Kind::Datadog) {
        Config::Datadog(config) => {
            assert_eq!(config.validate_url(), "https://api.us5.datadoghq.com/api/v1/validate");
            assert_eq!(config.agent(), None);
            for url in ["http://a:8126/evp_proxy/v4", "http://a:8126/evp_proxy/v4/api/v2/llmobs/"] {
                let config = DatadogConfig { url: url.into(), ..config.clone() };
                assert_eq!(config.spans_url(), "http://a:8126/evp_proxy/v4/api/v2/llmobs");
                assert_eq!(config.validate_url(), "http://a:8126/info");
            }
        }
        other => panic!("{other:?}"),
    }
    match config(Kind::Braintrust) {
        Config::Braintrust(config) => {
            assert_eq!(config.project_url(), "https://api-eu.braintrust.dev/v1/project/p-1");
        }
        other => panic!("{other:?}"),
    }
    match config(Kind::Opik) {
        Config::Opik(config) => {
            assert_eq!(config.spans_url(), "http://localhost:5173/api/v1/private/spans/batch");
        }
        other => panic!("{other:?}"),
    }
    match config(Kind::Weave) {
        Config::Weave(config) => {
            assert_eq!(config.upsert_url(), "https://sub.wandb.io/traces/call/upsert_batch");
        }
        other => panic!("{other:?}"),
    }
    match config(Kind::Posthog) {
        Config::Posthog(config) => assert_eq!(config.batch_url(), "https://eu.i.posthog.com/batch/"),
        other => panic!("{other:?}"),
    }
    match config(Kind::Sentry) {
        Config::Sentry(config) => {
            assert_eq!(config.public_key(), "key");
            assert_eq!(
                config.traces_url(),
                "https://sentry.example.com/prefix/api/7/integration/otlp/v1/traces"
            );
        }
        other => panic!("{other:?}"),
    }
}
