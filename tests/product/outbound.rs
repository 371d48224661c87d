//! Where the gateway connects to: no proxy it was not told of, no address the policy refuses.

use serde_json::{Value as Json, json};
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_loadkit::standin::Role;
use tracecast_tests::fakes::Fake;
use tracecast_tests::process::Home;
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// The kinds of this build, who answers for them, and their config for a vendor at `url`.
const KINDS: [(&str, Role); 5] = [
    ("otel-collector", Role::Collector),
    ("webhook", Role::Collector),
    ("langfuse", Role::Langfuse),
    ("s3", Role::S3),
    ("clickhouse", Role::Clickhouse),
];

fn config(kind: &str, url: &str) -> Json {
    match kind {
        "otel-collector" => json!({ "endpoint": url }),
        "webhook" => json!({ "url": format!("{url}/") }),
        "langfuse" => json!({ "publicKey": "pk-lf-tests-0001", "secretKey": "sk", "baseUrl": url }),
        "s3" => json!({ "bucketName": "b", "endpoint": url, "provider": "other", "accessKeyId": "AKIA",
                        "secretAccessKey": "secret" }),
        _ => json!({ "host": url, "database": "d", "username": "u", "password": "p" }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_not_used() {
    let proxy = Fake::start(Box::new(|_, _| (200, "text/plain", Vec::new()))).await;
    let home = Home::new(BINARY);
    home.config("");
    let url = proxy.url();
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let mut variables: Vec<(&str, &str)> = names.iter().map(|name| (*name, url.as_str())).collect();
    variables.extend([("NO_PROXY", ""), ("no_proxy", "")]);
    let gateway = home.start_with(&variables);
    let mut destinations = Vec::new();
    for (kind, role) in KINDS {
        let options = Options { role, ..Options::default() };
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), options).await.expect("a sink");
        let url = format!("http://localhost:{}", sink.address().port());
        let body = json!({ "type": kind, "name": kind, "config": config(kind, &url) });
        let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&body)).await;
        assert_eq!(test["data"]["ok"], true, "{kind}: {test}");
        destinations.push((kind, gateway.destination(body).await, sink));
    }
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    for (kind, id, sink) in &destinations {
        assert_eq!(gateway.settled(id, 1).await["delivered"], 1, "{kind}");
        assert_eq!(sink.stats().distinct_ids, 1, "{kind}");
    }
    // A name that does not exist is not given to a proxy either.
    let body = json!({ "type": "webhook", "name": "w", "config": { "url": "http://nowhere.invalid/" } });
    let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&body)).await;
    assert_eq!(test["data"]["ok"], false, "{test}");
    assert_eq!(proxy.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_addresses_are_told_by_the_rule_and_never_called() {
    let home = Home::new(BINARY);
    home.config("outbound: { deny_private_addresses: true, allow: [\"127.0.0.2\"] }\n");
    let gateway = home.start();
    let trap = Fake::start(Box::new(|_, _| (200, "application/json", b"{}".to_vec()))).await;
    let port = trap.url().rsplit(':').next().expect("a port").to_owned();
    let mut ids = Vec::new();
    for (kind, _) in KINDS {
        for (host, rule) in [
            (format!("localhost:{port}"), "outbound.deny_private_addresses"),
            (format!("2130706433:{port}"), "outbound.deny_private_addresses"),
            ("169.254.169.254".to_owned(), "metadata"),
        ] {
            let config = config(kind, &format!("http://{host}"));
            let body = json!({ "type": kind, "name": format!("{kind} {host}"), "config": config });
            let (_, test) = gateway.api("POST", "/observability/destinations/test", Some(&body)).await;
            assert_eq!(test["data"]["diagnosis"], "blocked_address", "{kind} {host}: {test}");
            let hint = test["data"]["hint"].as_str().expect("a hint");
            assert!(hint.contains(rule), "{kind} {host}: {hint}");
            if host.starts_with("localhost") {
                assert!(!test.to_string().contains("127.0.0.1"), "{test}");
                ids.push(gateway.destination(body).await);
            }
        }
    }
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    for id in &ids {
        let stats = gateway.failed(id).await;
        assert_eq!((&stats["pending"], &stats["delivered"]), (&json!(1), &json!(0)), "{stats:#}");
        assert!(stats.to_string().contains("outbound.deny_private_addresses"), "{stats:#}");
        assert!(!stats.to_string().contains("127.0.0.1"), "{stats:#}");
    }
    assert_eq!(trap.requests().len(), 0);
}
