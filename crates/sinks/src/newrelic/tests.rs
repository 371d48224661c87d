//! Address, key and limits of the New Relic adapter.

use opentelemetry_proto::tonic::common::v1::any_value;
use tracecast_destination::{NewrelicConfig, NewrelicRegion};
use tracecast_otlp::write::OwnedValue;

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
        ("vector", OwnedValue::Array((0..65).map(OwnedValue::Int).collect())),
        ("list", OwnedValue::Array((0..64).map(OwnedValue::Int).collect())),
        ("message", OwnedValue::Array(vec!["x".repeat(5_000).into()])),
        ("langfuse.user.id", "u".repeat(5_000).into()),
        (&"n".repeat(256), "a name that is too long".into()),
    ]));
    let sent = spans_sent(&adapter(None, NewrelicRegion::Us), item(1, &[long])).remove(0);
    let note = attribute(&sent, "note").unwrap();
    assert_eq!(note.chars().count(), 4_095);
    assert!(note.ends_with("[truncated]"), "{note}");
    assert_eq!(attribute(&sent, "note.truncated").as_deref(), Some("true"));
    assert_eq!(attribute(&sent, "fits").unwrap().chars().count(), 4_095);
    assert_eq!(attribute(&sent, "fits.truncated"), None);
    // More entries than are taken, and a structure that is too long: as text.
    assert!(attribute(&sent, "vector").unwrap().ends_with("63,64]"));
    assert_eq!(attribute(&sent, "vector.truncated"), None);
    assert!(attribute(&sent, "message").unwrap().ends_with("[truncated]"));
    assert_eq!(attribute(&sent, "message.truncated").as_deref(), Some("true"));
    let is_list = |key: &str| {
        let attribute = sent.attributes.iter().find(|attribute| attribute.key == key).unwrap();
        matches!(attribute.value.as_ref().unwrap().value, Some(any_value::Value::ArrayValue(_)))
    };
    assert!(is_list("list") && !is_list("vector"));
    assert_eq!(attribute(&sent, "ratio"), None);
    assert_eq!(attribute(&sent, &"n".repeat(256)), None);
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

#[tokio::test]
async fn a_body_over_the_limit_is_not_sent() {
    let server = Server::start(vec![(200, "", b"")]).await;
    let adapter = adapter(Some(&server.url), NewrelicRegion::Us);
    // Texts that do not compress: every value as long as it may be, each hash another.
    let noise = |seed: u64| -> String {
        let words = (0..512_u64).map(|i| (seed * 512 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let text: String = words.map(|word| format!("{:08x}", word >> 32)).collect();
        text.chars().take(4_000).collect()
    };
    let with = |values: u64| {
        let mut span = generation(1);
        span.attributes.extend((0..values).map(|i| (format!("noise.{i}"), noise(i).into())));
        batch(vec![item(1, &[span])])
    };
    assert_eq!(adapter.send(&with(200)).await.answer, Answer::Delivered);
    let Answer::Isolate { by_size: true, failure } = adapter.send(&with(800)).await.answer else { panic!() };
    assert!(failure.message.contains("1000000"), "{}", failure.message);
    assert_eq!(server.received().len(), 1);
}
