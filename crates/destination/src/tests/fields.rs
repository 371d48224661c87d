//! Rules of single config fields and of extra headers.
use super::*;

/// Config keys that are refused, by kind: `(kind, key, value, part of message or hint)`.
#[test]
fn values_the_field_rules_refuse() {
    for (kind, key, value, says) in [
        (Kind::Newrelic, "region", "EU", "did you mean \"eu\""),
        (Kind::Newrelic, "region", "europe", "us, eu"),
        (Kind::Newrelic, "licenseKey", "NRAK-0123456789", "user key"),
        (Kind::Webhook, "method", "post", "did you mean \"POST\""),
        (Kind::Webhook, "method", "GET", "POST, PUT"),
        (Kind::Langfuse, "secretKey", "sk lf", "without spaces"),
        (Kind::Langfuse, "secretKey", "sk-lf-0123\n", "line feed"),
        (Kind::Langfuse, "publicKey", "pk–lf", "ASCII"),
        (Kind::Sentry, "dsn", "http://k@h/1", "sentry dsn"),
        (Kind::Sentry, "dsn", "https://k@h/project", "sentry dsn"),
        (Kind::Sentry, "dsn", "https://h/1", "sentry dsn"),
        (Kind::Sentry, "otlpEndpoint", "https://h/api/9/integration/otlp/v1/traces", "project 456"),
        (Kind::Snowflake, "account", "https://abc.snowflakecomputing.com", "only the account"),
        (Kind::Snowflake, "account", "abc..def", "account identifier"),
        (Kind::Snowflake, "account", "-abc", "account identifier"),
        (Kind::Snowflake, "account", "ab/c", "account identifier"),
        (Kind::Grafana, "baseUrl", "https://mystack.grafana.net", "OTLP endpoint"),
        (Kind::Grafana, "baseUrl", "https://tempo-prod-1.grafana.net/tempo", "OTLP endpoint"),
        (Kind::Clickhouse, "host", "localhost", "scheme and port"),
        (Kind::Clickhouse, "host", "localhost:9000", "scheme and port"),
        (Kind::Clickhouse, "host", "tcp://localhost:9000", "http://"),
        (Kind::Clickhouse, "host", "http://u:p@localhost:8123", "user name"),
        (Kind::S3, "bucketName", "s3://bucket/prefix", "bare name"),
        (Kind::S3, "pathTemplate", "{prefix}/{hour}", "{hour}"),
        (Kind::S3, "pathTemplate", "{prefix}/{apikeyname}", "did you mean \"apiKeyName\""),
        (Kind::S3, "pathTemplate", "{prefix", "unbalanced"),
        (Kind::S3, "pathTemplate", "prefix}", "unbalanced"),
        (Kind::S3, "pathTemplate", "{date}}", "unbalanced"),
        (Kind::S3, "pathTemplate", "{{date}", "unbalanced"),
        (Kind::S3, "pathTemplate", "{}", "{}"),
        (Kind::S3, "roleArn", "arn:aws:iam::1:user/u", "role"),
    ] {
        let config = with(&case(kind).minimal, json!({ key: value }));
        let issue = sole(create(&body(kind, &config)), &format!("config.{key}"));
        assert!(issue.to_string().contains(says), "{kind} {value}: {issue}");
    }
    let long = "a".repeat(256);
    sole(create(&body(Kind::Snowflake, &json!({"account": long, "token": "t"}))), "config.account");
}

#[test]
fn values_the_field_rules_accept() {
    for (kind, key, value) in [
        (Kind::Sentry, "dsn", "https://k:s@h:9000/a/b/456/"),
        (Kind::Snowflake, "account", "abc12345.us-east-1.aws"),
        (Kind::Snowflake, "account", "My_Org-my_account"),
        (Kind::Grafana, "baseUrl", "http://localhost:4318"),
        (Kind::Grafana, "instanceId", "not numeric"),
        (Kind::Clickhouse, "host", "[::1]:8123"),
        (Kind::Clickhouse, "host", "https://h:8123"),
        (Kind::S3, "pathTemplate", "static/path"),
        (Kind::S3, "bucketName", "My.Bucket_1-x"),
    ] {
        created(kind, &with(&case(kind).minimal, json!({ key: value })));
    }
}

#[test]
fn header_names_of_the_connection_are_refused_everywhere() {
    let names = [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "TE",
        "upgrade",
        "trailer",
        "Expect",
        "Proxy-Authorization",
        "proxy-connection",
        "keep-alive",
        "x-tracecast-via",
        "with space",
        "",
        "col:on",
        "nön-ascii",
        "line\nfeed",
    ];
    for case in cases() {
        for name in names {
            let config = with(&case.minimal, json!({"headers": {name: "v"}}));
            sole(create(&body(case.kind, &config)), &format!("config.headers.{name}"));
        }
        for name in ["Content-Type", "content-encoding"] {
            let config = with(&case.minimal, json!({"headers": {name: "v"}}));
            let accepted = create(&body(case.kind, &config)).is_ok();
            assert_eq!(accepted, case.kind == Kind::Webhook, "{} {name}", case.kind);
        }
    }
}

#[test]
fn a_kinds_own_credential_is_refused_as_header() {
    for (kind, name) in [
        (Kind::Arize, "Authorization"),
        (Kind::Arize, "arize-space-id"),
        (Kind::Braintrust, "authorization"),
        (Kind::Clickhouse, "X-ClickHouse-User"),
        (Kind::Clickhouse, "X-ClickHouse-Key"),
        (Kind::Clickhouse, "authorization"),
        (Kind::Datadog, "DD-API-KEY"),
        (Kind::Grafana, "authorization"),
        (Kind::Langfuse, "authorization"),
        (Kind::Langsmith, "X-Api-Key"),
        (Kind::Newrelic, "Api-Key"),
        (Kind::Opik, "authorization"),
        (Kind::Ramp, "authorization"),
        (Kind::S3, "authorization"),
        (Kind::Sentry, "x-sentry-auth"),
        (Kind::Snowflake, "authorization"),
        (Kind::Weave, "authorization"),
        (Kind::Webhook, "webhook-id"),
        (Kind::Webhook, "Webhook-Timestamp"),
        (Kind::Webhook, "webhook-signature"),
        (Kind::Webhook, "Idempotency-Key"),
    ] {
        let config = with(&case(kind).minimal, json!({"headers": {name: "v"}}));
        sole(create(&body(kind, &config)), &format!("config.headers.{name}"));
    }
    for kind in [Kind::OtelCollector, Kind::Webhook] {
        let headers = json!({"headers": {"Authorization": "Bearer x", "X-Webhook-Signature": "s"}});
        created(kind, &with(&case(kind).minimal, headers));
    }
}

#[test]
fn header_values_and_duplicates() {
    let with_headers = |headers: Json| {
        create(&body(Kind::OtelCollector, &json!({"endpoint": "http://h", "headers": headers})))
    };
    for value in [json!("a\r\nb"), json!("a\u{0}"), json!(1), json!(null), json!([])] {
        sole(with_headers(json!({"X-A": value})), "config.headers.X-A");
    }
    assert_eq!(with_headers(json!({"X-A": "1", "x-a": "2"})).unwrap_err().len(), 1);
    sole(with_headers(json!([])), "config.headers");
    let many: serde_json::Map<String, Json> = (0..101).map(|i| (format!("x-{i}"), json!("v"))).collect();
    sole(with_headers(Json::Object(many)), "config.headers");
    sole(with_headers(json!("X-A: 1")), "config.headers");
    with_headers(json!({"X-A": "é", "X-B": ""})).unwrap();
    let made = with_headers(json!({"X-A": "token-0123456789", "x-b": "b"})).unwrap();
    assert_eq!(made.to_json()["config"]["headers"], json!({"X-A": "toke...6789", "x-b": "***"}));
}
