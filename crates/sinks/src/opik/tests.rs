//! Objects, ids and answers of the Opik adapter.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tracecast_destination::OpikConfig;
use uuid::Uuid;

use super::{Opik, ids};
use crate::testing::*;
use crate::{Adapter, Answer, Diagnosis};

fn adapter(url: &str) -> Opik {
    let config = OpikConfig {
        api_key: secret("opik_12345678"),
        workspace: "team".into(),
        project_name: "shop".into(),
        base_url: Some(format!("{url}/api")),
        headers: headers(&[]),
    };
    Opik::new(&config, &clients()).unwrap()
}

/// The trace and span objects of one item.
fn objects(spans: &[tracecast_otlp::write::SpanBuilder]) -> (Json, Json) {
    let previews = adapter("http://h").preview(&batch(vec![item(1, spans)]));
    let body = |i: usize| -> Json { serde_json::from_slice(&previews[i].body).unwrap() };
    (body(0)["traces"].clone(), body(1)["spans"].clone())
}

#[test]
fn a_generation_is_a_trace_with_an_llm_span() {
    let (traces, spans) = objects(&[generation(1)]);
    let (trace, span) = (&traces[0], &spans[0]);
    for (pointer, value) in [
        ("/project_name", json!("shop")),
        ("/name", json!("Checkout")),
        ("/thread_id", json!("session-9")),
        ("/start_time", json!("2026-01-15T10:41:00.500Z")),
        ("/input/messages/0/content", json!("Hi")),
        ("/metadata/openrouter_trace_id", json!(TRACE_HEX)),
    ] {
        assert_eq!(trace.pointer(pointer), Some(&value), "{pointer}");
    }
    for (pointer, value) in [
        ("/trace_id", trace["id"].clone()),
        ("/type", json!("llm")),
        ("/model", json!("claude-sonnet-4-20250514")),
        ("/provider", json!("anthropic")),
        ("/usage/prompt_tokens", json!(100)),
        ("/usage/completion_tokens", json!(40)),
        ("/usage/original_usage.prompt_tokens_details.cached_tokens", json!(30)),
        ("/total_estimated_cost", json!(0.0035)),
        ("/output/choices/0/message/content", json!("Hello")),
        ("/metadata/cost/input", json!(0.001)),
        ("/metadata/user_id", json!("user-1")),
        ("/metadata/team", json!("search")),
    ] {
        assert_eq!(span.pointer(pointer), Some(&value), "{pointer}");
    }
    assert!(span["usage"].as_object().unwrap().values().all(Json::is_u64));
}

#[test]
fn a_trace_is_told_by_its_root_and_children_point_to_parents() {
    let mut child = generation(2);
    child.parent_span_id = Some([1; 8]);
    child.start_unix_nano -= 1;
    let (traces, spans) = objects(&[child, span(1, &[("trace.name", "The root".into())])]);
    assert_eq!(traces.as_array().unwrap().len(), 1);
    assert_eq!(traces[0]["name"], "The root");
    assert_eq!(spans[0]["parent_span_id"], spans[1]["id"]);
}

#[test]
fn a_late_child_tells_no_trace() {
    let mut child = generation(2);
    child.parent_span_id = Some([1; 8]);
    let previews = adapter("http://h").preview(&batch(vec![item(1, &[child])]));
    let urls: Vec<&str> = previews.iter().map(|preview| preview.url.as_str()).collect();
    assert_eq!(urls, ["http://h/api/v1/private/spans/batch"]);
}

#[test]
fn ids_are_near_and_no_hour_cuts_every_trace() {
    const HOUR_NANO: u64 = 3_600_000_000_000;
    let mut cut = [0_u32; 24];
    for n in 1..=200_u64 {
        // Spread as random ids are.
        let half = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        // The seventh byte would make some of them a UUIDv7 of their own.
        let trace_id = std::array::from_fn(|i| if i == 6 { 0 } else { half[i % 8] });
        let at = |hour: u64| ids::of_trace(trace_id, START + hour * HOUR_NANO);
        for hour in 0..24 {
            let (seconds, nanos) = at(hour).get_timestamp().unwrap().to_unix();
            let time = seconds * 1_000_000_000 + u64::from(nanos);
            let age = START + hour * HOUR_NANO - time;
            assert!(age < 12 * HOUR_NANO, "{age}");
            cut[hour as usize] += u32::from(at(hour) != at(hour + 1));
        }
    }
    // Each trace has two marks a day.
    assert_eq!(cut.iter().sum::<u32>(), 400);
    assert!(cut.iter().all(|traces| *traces < 60), "{cut:?}");
}

#[test]
fn ids_are_version_7_and_the_same_for_every_request() {
    let trace = ids::of_trace(TRACE_ID, START);
    assert_eq!(trace.get_version_num(), 7);
    assert_eq!(trace, ids::of_trace(TRACE_ID, START + 1_800_000_000_000));
    assert_ne!(trace, ids::of_trace([0xac; 16], START));
    assert_eq!(ids::of_span(TRACE_ID, [1; 8], START).get_version_num(), 7);
    assert_ne!(ids::of_span(TRACE_ID, [1; 8], START), ids::of_span(TRACE_ID, [2; 8], START));
    let own = Uuid::now_v7();
    assert_eq!(ids::of_trace(own.into_bytes(), START), own);
}

#[tokio::test]
async fn traces_go_first_and_duplicates_are_a_success() {
    let server = Server::start(vec![
        (204, "", b""),
        (204, "", b""),
        (409, "", b"{}"),
        (409, "", b"{}"),
        (429, "ratelimit-reset: 7\r\n", b""),
    ])
    .await;
    let adapter = adapter(&server.url);
    let batch = batch(vec![item(1, &[generation(1)])]);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    assert_eq!(adapter.send(&batch).await.answer, Answer::Delivered);
    let Answer::Retry(failure) = adapter.send(&batch).await.answer else { panic!() };
    assert_eq!(failure.retry_after, Some(Duration::from_secs(7)));
    let received = server.received();
    assert_eq!(received.len(), 5, "spans are not sent where the traces were refused");
    assert_eq!(received[0].target, "/api/v1/private/traces/batch");
    assert_eq!(received[1].target, "/api/v1/private/spans/batch");
    assert_eq!(received[0].header("authorization"), "opik_12345678");
    assert_eq!(received[0].header("comet-workspace"), "team");
    assert_eq!(gunzip(&received[1].body), gunzip(&received[3].body), "a retry repeats every id");
    assert!(!format!("{adapter:?}").contains("opik_1234"));
}

#[tokio::test]
async fn the_test_asks_for_the_workspace() {
    // An empty batch is refused as such, after the rights were looked at.
    let server =
        Server::start(vec![(200, "", b"{}"), (422, "", b"{}"), (401, "", b""), (404, "", b"")]).await;
    let adapter = adapter(&server.url);
    assert!(adapter.test().await.ok);
    assert_eq!(gunzip(&server.received()[1].body), br#"{"traces":[]}"#);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::Auth);
    assert_eq!(adapter.test().await.diagnosis, Diagnosis::NotFound);
    let received = server.received().remove(0);
    assert_eq!(
        (received.method.as_str(), received.target.as_str()),
        ("GET", "/api/v1/private/auth/workspace")
    );
}
