//! Every fault as an ordinary HTTP client sees it, and what the receipts say of it.

use std::time::Duration;

use super::*;
use crate::oracle::{Oracle, Verdict};
use crate::traffic::Template;

fn client() -> reqwest::Client {
    client_for(Duration::from_secs(60))
}

/// A client that gives up after so long.
fn client_for(patience: Duration) -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(patience).build().unwrap()
}

fn body(first: u64) -> Vec<u8> {
    Template::new(1, 4, 100).request(9, first, 2_000_000_000)
}

/// Sends four spans; the status, content type and body of the answer.
async fn send(sink: &FaultSink, client: &reqwest::Client) -> Result<(u16, String, Vec<u8>), reqwest::Error> {
    let request = client.post(sink.url()).header("content-type", "application/x-protobuf").body(body(0));
    let response = request.send().await?;
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map_or("", |v| v.to_str().unwrap()).to_owned();
    Ok((status, kind, response.bytes().await?.to_vec()))
}

#[tokio::test]
async fn what_is_taken_is_in_the_receipts_and_nothing_else() {
    let refuse = Reply::new(429, "slow down").header("retry-after", "1.5");
    let partial = Fault::Partial { refused: 3, said: 3, message: "no".into() };
    let poison = |marker: &str| Fault::Poison { marker: marker.into(), reply: Reply::new(400, "poison") };
    for (fault, status, taken) in [
        (Fault::None, 200, 4),
        (Fault::Refuse(refuse), 429, 0),
        (Fault::TakeSaying(Reply::json(207, "[]")), 207, 4),
        (partial, 200, 1),
        (Fault::Above(100), 413, 0),
        (Fault::Above(100_000), 200, 4),
        (poison("gen_ai.request.model"), 400, 0),
        (poison("not in there"), 200, 4),
        (Fault::CloseUnderReuse, 200, 4),
        (Fault::EarlyReply(Reply::new(401, "who are you")), 401, 0),
    ] {
        let sink = FaultSink::start(fault.clone()).await.unwrap();
        let answer = send(&sink, &client()).await.unwrap();
        assert_eq!(answer.0, status, "{fault:?}");
        assert_eq!(sink.receipts().len(), taken, "{fault:?}");
        assert_eq!(sink.exchanges()[0].status, Some(status));
        assert_eq!(sink.exchanges()[0].taken, taken);
    }
}

#[tokio::test]
async fn connections_break_where_they_are_told_to() {
    for (fault, taken) in [
        (Fault::ResetAtHead, 0),
        (Fault::ResetAt(1), 0),
        (Fault::ResetAt(700), 0),
        (Fault::ResetAfterBody, 0),
        (Fault::TornAnswer, 0),
        (Fault::LoseAnswer, 4),
        (Fault::Garbage, 0),
        (Fault::Hang, 0),
        (Fault::Drip, 0),
    ] {
        let sink = FaultSink::start(fault.clone()).await.unwrap();
        let endless = matches!(fault, Fault::Hang | Fault::Drip);
        let client = if endless { client_for(Duration::from_secs(3)) } else { client() };
        let error = send(&sink, &client).await.unwrap_err();
        assert_eq!(error.is_timeout(), endless, "{fault:?}: {error:?}");
        assert_eq!(sink.receipts().len(), taken, "{fault:?}");
        assert_eq!(sink.exchanges()[0].status, None, "{fault:?}");
    }
}

#[tokio::test]
async fn the_script_is_followed_and_the_oracle_sees_what_came() {
    let sink = FaultSink::start(Fault::None).await.unwrap();
    sink.queue([Fault::LoseAnswer, Fault::Refuse(Reply::new(503, "busy"))]);
    let client = client();
    assert!(send(&sink, &client).await.is_err());
    assert_eq!(send(&sink, &client).await.unwrap().0, 503);
    assert_eq!(send(&sink, &client).await.unwrap().0, 200);
    sink.behave(Fault::Refuse(Reply::new(500, "down")));
    assert_eq!(send(&sink, &client).await.unwrap().0, 500);
    let mut oracle = Oracle::default();
    oracle.acknowledge(&body(0));
    oracle.acknowledge(&body(4));
    let expected = Verdict { obligations: 8, missing: 4, taken: 4, duplicates: 4, ..Verdict::default() };
    assert_eq!(oracle.judge(&sink.receipts()), expected);
}

#[tokio::test]
async fn partial_successes_are_what_otlp_says() {
    let sink = FaultSink::start(Fault::None).await.unwrap();
    sink.queue([Fault::Partial { refused: 2, said: 2, message: "two of four".into() }]);
    let (_, kind, body) = send(&sink, &client()).await.unwrap();
    assert_eq!(kind, "application/x-protobuf");
    // partial_success { rejected_spans: 2, error_message: "two of four" }
    assert_eq!(body, [b"\x0a\x0f\x08\x02\x12\x0b".as_slice(), b"two of four"].concat());
    let json = partial_success(true, -1, "odd");
    assert_eq!(json.body, br#"{"partialSuccess":{"errorMessage":"odd","rejectedSpans":"-1"}}"#);
}

#[tokio::test]
async fn nobody_answers_in_a_black_hole() {
    let hole = BlackHole::start().await.unwrap();
    let connect = TcpStream::connect(hole.address().unwrap());
    assert!(tokio::time::timeout(Duration::from_millis(500), connect).await.is_err());
}

#[tokio::test]
async fn a_connection_closed_under_reuse_is_open_for_the_answer_only() {
    let sink = FaultSink::start(Fault::CloseUnderReuse).await.unwrap();
    let client = client();
    for _ in 0..3 {
        // The pool may notice in time or not; the sink has taken every request that it answered.
        let _ = send(&sink, &client).await;
    }
    let answered = sink.exchanges().iter().filter(|e| e.status == Some(200)).count();
    assert_eq!(sink.exchanges().iter().map(|e| e.taken).sum::<usize>(), 4 * answered);
    assert!(answered >= 1);
}
