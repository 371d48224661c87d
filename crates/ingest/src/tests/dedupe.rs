//! Spans that come again: answered as their first copy was, counted once.

use http::StatusCode;
use serde_json::json;

use super::{GATEWAY_KEY, OTHER_WORKSPACE, bench, request, span};
use crate::Options;

#[tokio::test]
async fn a_request_sent_again_is_acknowledged_and_kept_once() {
    let bench = bench(Options::default());
    let body = request(&[span(1, &[]), span(2, &[])]);
    for _ in 0..3 {
        let answer = bench.otlp(&[], body.clone()).await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b""[..]));
    }
    assert_eq!(bench.log.accepted(), 2);
    assert_eq!(bench.selected(), [2, 2, 0]);
    assert_eq!(bench.ingest.counters().duplicates(), 4);
}

#[tokio::test]
async fn only_the_new_spans_of_a_mixed_request_are_kept() {
    let bench = bench(Options::default());
    bench.otlp(&[], request(&[span(1, &[])])).await;
    let answer = bench.otlp(&[], request(&[span(1, &[]), span(2, &[]), span(2, &[])])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!((bench.log.accepted(), bench.ingest.counters().duplicates()), (2, 2));
}

#[tokio::test]
async fn a_copy_differs_in_nothing_that_counts() {
    let bench = bench(Options::default());
    let mut others =
        vec![span(1, &[]), span(1, &[("k", "longer")]), span(1, &[]), span(1, &[]), span(1, &[])];
    others[2].end_unix_nano += 1;
    others[3].span_id = [9; 8];
    others[4].trace_id = [9; 16];
    for span in &others {
        assert_eq!(bench.otlp(&[], request(std::slice::from_ref(span))).await.status, StatusCode::OK);
    }
    assert_eq!((bench.log.accepted(), bench.ingest.counters().duplicates()), (5, 0));
}

#[tokio::test]
async fn the_same_span_in_another_workspace_is_another_span() {
    let bench = bench(Options::default());
    let key = format!("Bearer {GATEWAY_KEY}");
    let event = json!({
        "id": "gen-1", "model": "m", "start_time": 1_700_000_000, "end_time": 1_700_000_001,
    });
    let mut elsewhere = event.clone();
    elsewhere["workspace_id"] = json!(OTHER_WORKSPACE);
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    for body in [&event, &event, &elsewhere, &elsewhere] {
        let answer = bench.send("/v1/events", &headers, body.to_string().into_bytes()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json()["accepted"], 1);
    }
    let kept = bench.log.accepted();
    assert_eq!(bench.ingest.counters().duplicates(), kept);
    assert_eq!(bench.selected()[2] * 2, kept);
}

#[tokio::test]
async fn what_the_log_refused_is_new_when_it_comes_again() {
    let bench = bench(Options::default());
    let sorted = |n| {
        let traces =
            tracecast_otlp::Traces::index(request(&[span(n, &[])]).into(), &Default::default()).unwrap();
        bench.ingest.shared.dedupe.sort(OTHER_WORKSPACE, &traces)
    };
    let first = sorted(1);
    assert!(first.fresh.is_none());
    let mut copy = sorted(1);
    assert!(copy.fresh.is_some_and(|fresh| fresh.is_empty()));
    let waiting = tokio::spawn(copy.first_copies.remove(0).answered());
    let refusal = crate::answer::Refusal::overloaded("the log is full", 5);
    first.claim.refused(&refusal);
    assert_eq!(waiting.await.unwrap(), Err(refusal));
    // Given up by its sender before the log had answered.
    drop(sorted(1));
    let second = sorted(1);
    assert!(second.fresh.is_none());
    let mut copy = sorted(1);
    second.claim.kept();
    assert_eq!(copy.first_copies.remove(0).answered().await, Ok(()));
    assert!(sorted(1).first_copies.is_empty());
}
