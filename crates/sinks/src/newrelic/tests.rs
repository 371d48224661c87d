//! Address, key and limits of the New Relic adapter.

use tracecast_destination::{NewrelicConfig, NewrelicRegion};

use super::Newrelic;
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(base_url: Option<&str>, region: NewrelicRegion) -> Newrelic {
    let config = NewrelicConfig {
        license_key: secret("abcdef0123456789NRAL"),
        region,
        base_url: base_url.map(str::to_owned),
        headers: headers(&[]),
    };
    Newrelic::new(&config, &clients()).unwrap()
}

#[test]
fn the_region_decides_the_address() {
    let url = |region| adapter(None, region).endpoint.url.to_string();
    assert_eq!(url(NewrelicRegion::Us), "https://otlp.nr-data.net/v1/traces");
    assert_eq!(url(NewrelicRegion::Eu), "https://otlp.eu01.nr-data.net/v1/traces");
}

#[tokio::test]
async fn packed_protobuf_with_the_license_key() {
    let server = Server::start(vec![(200, "", b"")]).await;
    let adapter = adapter(Some(&server.url), NewrelicRegion::Us);
    let sent = adapter.send(&batch(vec![item(1, &[generation(1)])])).await;
    assert_eq!(sent.answer, Answer::Delivered);
    let received = server.received().remove(0);
    assert_eq!(
        (received.target.as_str(), received.header("api-key")),
        ("/v1/traces", "abcdef0123456789NRAL")
    );
    assert_eq!(received.header("content-encoding"), "gzip");
    assert!(!format!("{adapter:?}").contains("NRAL"));
}

#[test]
fn long_values_are_cut_where_everybody_sees_it() {
    let mut long = generation(1);
    long.attributes.extend(attributes(&[
        ("note", "ä".repeat(4_096).into()),
        ("fits", "ä".repeat(4_095).into()),
        ("ratio", f64::NAN.into()),
    ]));
    let sent = spans_sent(&adapter(None, NewrelicRegion::Us), item(1, &[long])).remove(0);
    let note = attribute(&sent, "note").unwrap();
    assert_eq!(note.chars().count(), 4_095);
    assert!(note.ends_with("[truncated]"), "{note}");
    assert_eq!(attribute(&sent, "note.truncated").as_deref(), Some("true"));
    assert_eq!(attribute(&sent, "fits").unwrap().chars().count(), 4_095);
    assert_eq!(attribute(&sent, "fits.truncated"), None);
    assert_eq!(attribute(&sent, "ratio"), None);
    assert_eq!(attribute(&sent, "gen_ai.usage.input_tokens").as_deref(), Some("100"));
}

#[tokio::test]
async fn tests_tell_what_is_wrong() {
    let server = Server::start(vec![(200, "", b""), (403, "", b"")]).await;
    let adapter = adapter(Some(&server.url), NewrelicRegion::Us);
    assert!(adapter.test().await.ok);
    let report = adapter.test().await;
    assert_eq!(report.diagnosis, Diagnosis::Auth);
    assert!(report.hint.contains("config.region"), "{}", report.hint);
}
