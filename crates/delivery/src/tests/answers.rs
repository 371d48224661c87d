//! Every class of answer: what is sent again, when, and where each span ends.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracecast_log::{DeadReason, DropReason, Slot};
use tracecast_otlp::write::{SpanBuilder, resource_spans};
use tracecast_otlp::{Payload, SpanSet};
use tracecast_sinks::{Answer, BatchLimits, ItemAnswer};

use super::harness::*;
use crate::{Options, State};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_is_delivered_and_measured() {
    let (bench, adapter) = (Bench::new(), Scripted::willing());
    let slot = bench.add("a", &adapter);
    bench.append(3, &[slot]).await;
    bench.quiet().await;
    let stats = bench.stats("a");
    assert_eq!((stats.state, stats.attempts, stats.retries, stats.bytes_sent), (State::Healthy, 1, 0, 10));
    assert_eq!((stats.in_flight, stats.latency.count), (0, 3));
    // The batch lingered 200 ms, and that is all that time passed.
    let p50 = stats.latency_p50_ms.unwrap();
    assert!((175.0..=225.0).contains(&p50), "{p50}");
    assert!(stats.last_delivered_unix_nano.is_some() && stats.last_error.is_none());
    let books = bench.books(slot).await;
    assert_eq!((books.selected, books.delivered, books.pending), (3, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_the_same_batch_with_the_same_token() {
    let bench = Bench::new();
    let adapter = Scripted::answers(vec![retry(503), retry(429), retry(408)]);
    let slot = bench.add("a", &adapter);
    bench.append(2, &[slot]).await;
    bench.append(3, &[slot]).await;
    bench.quiet().await;
    let calls = adapter.calls();
    assert_eq!(calls.len(), 4);
    assert_eq!(calls.iter().map(|c| c.attempt).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(calls.iter().all(|c| c.token == calls[0].token && c.spans == calls[0].spans));
    assert!(calls[0].token.starts_with(&id("a").to_string()) && !calls[0].token.contains('.'));
    // Full jitter: no wait is longer than the doubled base.
    for (n, pair) in calls.windows(2).enumerate() {
        assert!(pair[1].at - pair[0].at <= Duration::from_millis(500 << n) + Duration::from_millis(2), "{n}");
    }
    assert_eq!(bench.stats("a").retries, 3);
    assert_eq!(bench.books(slot).await.delivered, 5);
}

#[tokio::test(start_paused = true)]
async fn retry_after_stops_the_whole_destination() {
    let bench = Bench::new();
    let adapter = Scripted::new(BatchLimits { spans_max: 1, ..LIMITS }, |_| Answer::Delivered.into());
    let mut calls = 0;
    adapter.then(move |_| {
        calls += 1;
        let wait = if calls == 1 { retry_after(429, secs(100)) } else { Answer::Delivered };
        wait.into()
    });
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    sleep(secs(1)).await;
    assert_eq!(bench.state("a"), State::Throttled);
    for _ in 0..10 {
        bench.append(1, &[slot]).await;
    }
    bench.quiet().await;
    let calls = adapter.calls();
    let wait = calls[1].at - calls[0].at;
    assert!(wait >= secs(100) && wait <= secs(110) + Duration::from_millis(2), "{wait:?}");
    assert_eq!(calls.len(), 12);
    assert_eq!(bench.state("a"), State::Healthy);
    assert_eq!(bench.books(slot).await.delivered, 11);
}

#[tokio::test(start_paused = true)]
async fn a_ramp_follows_a_throttle() {
    let bench = Bench::new();
    let adapter = Scripted::new(BatchLimits { spans_max: 1, ..LIMITS }, |_| Answer::Delivered.into());
    let mut first = true;
    adapter.then(move |_| match std::mem::take(&mut first) {
        true => retry_after(503, secs(5)).into(),
        false => Reply::Later(secs(1), Answer::Delivered),
    });
    let slot = bench.add("a", &adapter);
    for _ in 0..16 {
        bench.append(1, &[slot]).await;
    }
    bench.quiet().await;
    let calls = adapter.calls();
    let resumed = calls.iter().find(|c| c.at > calls[0].at + secs(4)).unwrap().at;
    let at_first = calls.iter().filter(|c| c.at == resumed).count();
    assert_eq!(at_first, 1, "one request shows whether it may go on");
    assert_eq!(adapter.most_in_flight(), 4);
    assert_eq!(bench.books(slot).await.delivered, 16);
}

async fn isolation(poisoned: u32, records: u32, spans: u32) {
    let bench = Bench::new();
    let total = records * spans;
    let limits = BatchLimits { spans_max: total, ..LIMITS };
    let adapter = Scripted::new(limits, |_| Answer::Delivered.into());
    let slot = bench.add("a", &adapter);
    let mut keys = Vec::new();
    // The runtime sees nothing before all is in: sent as one batch.
    bench.delivery.pause(id("a"));
    for _ in 0..records {
        let sequence = bench.append(spans, &[slot]).await;
        keys.extend((0..spans).map(|i| (sequence, i)));
    }
    // Spread over the batch, first and last among them.
    let step = (total - 1).checked_div(poisoned - 1).unwrap_or(0).max(1);
    let poison: BTreeSet<SpanKey> = (0..poisoned).map(|i| keys[(i * step) as usize]).collect();
    let bad = poison.clone();
    adapter.then(move |call| {
        let refused = call.spans.iter().any(|s| bad.contains(s));
        if refused { isolate(false).into() } else { Answer::Delivered.into() }
    });
    bench.delivery.resume(id("a"));
    bench.quiet().await;

    let taken = adapter.taken();
    assert!(taken.values().all(|n| *n == 1), "delivered once");
    let good: BTreeSet<SpanKey> = keys.iter().copied().filter(|k| !poison.contains(k)).collect();
    assert_eq!(taken.keys().copied().collect::<BTreeSet<_>>(), good);
    let letters = bench.dead_letters(slot).await;
    assert_eq!(letters.len(), poison.len());
    let of: BTreeSet<u64> = letters.iter().map(|l| l.sequence).collect();
    assert_eq!(of, poison.iter().map(|(sequence, _)| *sequence).collect());
    assert!(
        letters.iter().all(|l| l.reason == DeadReason::Rejected && l.status == Some(400) && l.spans == 1)
    );
    // The bound of the guarantees: 2 k log2(n) + 2 k extra requests.
    let (k, n) = (f64::from(poisoned), f64::from(total));
    let extra = adapter.calls().len() - 1;
    assert_eq!(bench.stats("a").bisect_requests, extra as u64);
    assert!(extra as f64 <= 2.0 * k * n.log2().ceil() + 2.0 * k, "{extra} extra requests");
    assert_eq!(bench.state("a"), State::Healthy, "refusing a payload is no sign of trouble");
    let books = bench.books(slot).await;
    assert_eq!(books.delivered, u64::from(total - poisoned));
    assert_eq!(books.dead_lettered[DeadReason::Rejected as usize], u64::from(poisoned));
    assert_eq!(books.pending, 0);
}

#[tokio::test(start_paused = true)]
async fn one_bad_span_of_a_thousand_is_found() {
    isolation(1, 20, 50).await;
}

#[tokio::test(start_paused = true)]
async fn three_bad_spans_of_a_thousand_are_found() {
    isolation(3, 1000, 1).await;
}

#[tokio::test(start_paused = true)]
async fn seventeen_bad_spans_of_a_thousand_are_found() {
    isolation(17, 1, 1000).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_halved_by_bytes_and_the_limit_is_learned() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    let slot = bench.add("a", &adapter);
    // Nine spans of 10 kB and a last one of 200 kB; more than 100 kB are refused.
    let size = |i: u32| if i % 10 == 9 { 200_000 } else { 10_000 };
    adapter.then(move |call| {
        let bytes: usize = call.spans.iter().map(|(_, i)| size(*i)).sum();
        if bytes > 100_000 { isolate(true).into() } else { Answer::Delivered.into() }
    });
    bench.append_record(record(payload(10, size), 10, vec![route(slot, SpanSet::all(10))])).await;
    bench.quiet().await;
    // By bytes the first cut already parts the large span from the small ones.
    let sent: Vec<usize> = adapter.calls().iter().map(|c| c.spans.len()).collect();
    // It is sent again made smaller; but what is large in it is nothing that may be cut.
    assert_eq!(sent, [10, 9, 1, 1]);
    let letters = bench.dead_letters(slot).await;
    assert_eq!(
        letters.iter().map(|l| (l.reason, l.status)).collect::<Vec<_>>(),
        [(DeadReason::TooLarge, Some(413))]
    );

    // The next ones, 290 kB of small spans at hand at once, do not run into it again.
    bench.delivery.pause(id("a"));
    let before = adapter.calls().len();
    for _ in 0..29 {
        bench.append_record(record(payload(1, size), 1, vec![route(slot, SpanSet::all(1))])).await;
    }
    bench.delivery.resume(id("a"));
    bench.quiet().await;
    assert!(adapter.calls()[before..].iter().all(|c| c.spans.len() <= 14), "below half of what was refused");
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.dead_lettered[DeadReason::TooLarge as usize]), (38, 1));
}

#[tokio::test(start_paused = true)]
async fn a_partial_success_without_names_is_never_resent() {
    let bench = Bench::new();
    let adapter = Scripted::answers(vec![
        Answer::Partial { refused: 4, message: "four are bad".into() },
        Answer::Partial { refused: 0, message: "deprecated".into() },
        Answer::Partial { refused: 99, message: "more than there were".into() },
    ]);
    let slot = bench.add("a", &adapter);
    for _ in 0..3 {
        bench.append(3, &[slot]).await;
        bench.append(3, &[slot]).await;
        bench.quiet().await;
    }
    assert_eq!(adapter.calls().len(), 3);
    assert_eq!(bench.state("a"), State::Degraded);
    assert!(bench.stats("a").last_error.unwrap().excerpt.contains("more than there were"));
    let books = bench.books(slot).await;
    assert_eq!(books.delivered, 2 + 6);
    assert_eq!(books.dropped[DropReason::RefusedUnattributed as usize], 4 + 6);
}

#[tokio::test(start_paused = true)]
async fn items_are_settled_one_by_one() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    let slot = bench.add("a", &adapter);
    let mut sequences = Vec::new();
    for spans in [1, 1, 1, 4] {
        sequences.push(bench.append(spans, &[slot]).await);
    }
    // Of the record with four spans, only the third is bad.
    let (stored, refused, later, mixed) = (sequences[0], sequences[1], sequences[2], sequences[3]);
    let mut laters = 0;
    adapter.then(move |call| {
        let answers = call.items.iter().map(|item| match item[0].0 {
            s if s == stored => ItemAnswer::Delivered,
            s if s == refused => ItemAnswer::Refused("no such field".into()),
            s if s == later => {
                laters += 1;
                if laters > 2 { ItemAnswer::Delivered } else { ItemAnswer::Retry }
            }
            s if s == mixed && item.contains(&(mixed, 2)) => ItemAnswer::Refused("bad span".into()),
            _ => ItemAnswer::Delivered,
        });
        Answer::PerItem(answers.collect()).into()
    });
    bench.quiet().await;
    let expected: BTreeSet<SpanKey> =
        [(stored, 0), (later, 0), (mixed, 0), (mixed, 1), (mixed, 3)].into_iter().collect();
    assert_eq!(adapter.taken().keys().copied().collect::<BTreeSet<_>>(), expected);
    assert!(adapter.taken().values().all(|n| *n == 1));
    let letters = bench.dead_letters(slot).await;
    let words: BTreeSet<_> = letters.iter().map(|l| (l.sequence, l.excerpt.as_str())).collect();
    assert_eq!(words, [(refused, "no such field"), (mixed, "bad span")].into_iter().collect());
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.dead_lettered[DeadReason::Rejected as usize]), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn items_without_a_verdict_are_sent_again() {
    let bench = Bench::new();
    let adapter =
        Scripted::answers(vec![Answer::PerItem(vec![ItemAnswer::Delivered]), Answer::PerItem(vec![])]);
    let slot = bench.add("a", &adapter);
    let first = bench.append(1, &[slot]).await;
    let second = bench.append(1, &[slot]).await;
    bench.quiet().await;
    let sent: Vec<Vec<SpanKey>> = adapter.calls().into_iter().map(|c| c.spans).collect();
    assert_eq!(sent, [vec![(first, 0), (second, 0)], vec![(second, 0)], vec![(second, 0)]]);
    assert_eq!(bench.books(slot).await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_hold_the_data_and_a_new_configuration_wakes_it() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    adapter.then(|_| Answer::Auth(failure(401)).into());
    let slot = bench.add("a", &adapter);
    for _ in 0..5 {
        bench.append(1, &[slot]).await;
        sleep(secs(1)).await;
    }
    assert_eq!(bench.state("a"), State::HeldAuth);
    sleep(secs(1800)).await;
    // 60 s, 2 min, 4 min, 8 min: within half an hour no more than six requests.
    let calls = adapter.calls();
    assert!((5..=6).contains(&calls.len()), "{}", calls.len());
    for (pair, minutes) in calls.windows(2).zip([1, 2, 4, 8, 15]) {
        let wait = (pair[1].at - pair[0].at).as_secs_f64() / 60.0;
        assert!(wait >= f64::from(minutes) && wait <= f64::from(minutes) * 1.1 + 0.01, "{wait}");
    }

    let fixed = Scripted::willing();
    let mut changed = destination("a");
    changed.name = "a, with the right key".into();
    let now = Instant::now();
    bench.change(changed, Ok(fixed.clone()));
    bench.quiet().await;
    assert!(Instant::now() - now < secs(1), "probed at once");
    assert_eq!(fixed.taken().len(), 5);
    assert_eq!(bench.state("a"), State::Healthy);
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.pending), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn the_edit_of_one_destination_does_not_wake_another() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    adapter.then(|_| Answer::Auth(failure(403)).into());
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    sleep(secs(1)).await;
    for n in 0..100 {
        bench.add(&format!("b{n}"), &Scripted::willing());
        // The same configuration, read anew.
        bench.change(destination("a"), Ok(adapter.clone()));
    }
    sleep(secs(1)).await;
    assert_eq!(adapter.calls().len(), 1);
    assert_eq!(bench.state("a"), State::HeldAuth);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_address_holds_after_three_answers() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    adapter.then(|_| Answer::Config(failure(404)).into());
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    sleep(secs(30)).await;
    assert_eq!((adapter.calls().len(), bench.state("a")), (3, State::HeldConfig));
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(bench.state("a"), State::Healthy);
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn gone_waits_for_somebody() {
    let bench = Bench::new();
    let adapter = Scripted::answers(vec![Answer::Gone(failure(410))]);
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    sleep(secs(3600)).await;
    bench.append(1, &[slot]).await;
    sleep(secs(3600)).await;
    assert_eq!((adapter.calls().len(), bench.state("a")), (1, State::Gone));
    assert!(bench.delivery.resume(id("a")));
    bench.quiet().await;
    assert_eq!(bench.state("a"), State::Healthy);
    assert_eq!(bench.books(slot).await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_too_long_expires() {
    let bench = Bench::with(Options { max_age: secs(600), ..Options::default() });
    let adapter =
        Scripted::new(BatchLimits { spans_max: 1, concurrency_max: 1, ..LIMITS }, |_| retry(503).into());
    let slot = bench.add("a", &adapter);
    let start = Instant::now();
    for _ in 0..20 {
        bench.append(1, &[slot]).await;
    }
    bench.quiet().await;
    assert_eq!((Instant::now() - start).as_secs(), 600, "outstanding and queued ones, at their age");
    let books = bench.books(slot).await;
    assert_eq!((books.dropped[DropReason::Expired as usize], books.pending), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_held_expires_too() {
    let bench = Bench::with(Options { max_age: secs(600), ..Options::default() });
    let adapter = Scripted::willing();
    adapter.then(|_| Answer::Gone(failure(410)).into());
    let slot = bench.add("a", &adapter);
    bench.append(2, &[slot]).await;
    bench.quiet().await;
    assert_eq!(bench.books(slot).await.dropped[DropReason::Expired as usize], 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_adapter_is_a_failure_like_any_other() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    let mut calls = 0;
    adapter.then(move |_| {
        calls += 1;
        if calls <= 2 { Reply::Panic } else { Answer::Delivered.into() }
    });
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    let stats = bench.stats("a");
    assert_eq!((stats.attempts, stats.in_flight), (3, 0));
    assert!(stats.last_error.unwrap().excerpt.contains("panicked"));
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_cut_at_the_timeout() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    let mut first = true;
    adapter.then(move |_| if std::mem::take(&mut first) { Reply::Hang } else { Answer::Delivered.into() });
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    let calls = adapter.calls();
    let wait = calls[1].at - calls[0].at;
    assert!(wait >= secs(30) && wait <= Duration::from_millis(30_502), "{wait:?}");
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_span_that_breaks_the_receiver_is_found_as_long_as_others_pass() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    let slot = bench.add("a", &adapter);
    bench.delivery.pause(id("a"));
    let sequence = bench.append(8, &[slot]).await;
    adapter.then(move |call| {
        if call.spans.contains(&(sequence, 0)) { retry(500).into() } else { Answer::Delivered.into() }
    });
    bench.delivery.resume(id("a"));
    sleep(secs(3600)).await;
    let sizes: Vec<usize> = adapter.calls().iter().map(|c| c.spans.len()).collect();
    assert_eq!(sizes[..3], [8, 8, 8]);
    assert!(sizes.ends_with(&[1, 1]), "{sizes:?}");
    assert_eq!(adapter.taken().len(), 7, "the others are delivered while the one waits");
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert!(bench.dead_letters(slot).await.is_empty(), "500 is no refusal");
    assert_eq!(bench.books(slot).await.delivered, 8);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_broken_altogether_is_sent_halves_once() {
    let bench = Bench::new();
    let adapter = Scripted::new(LIMITS, |_| retry(500).into());
    let slot = bench.add("a", &adapter);
    bench.append(8, &[slot]).await;
    sleep(secs(3600)).await;
    let sizes: Vec<usize> = adapter.calls().iter().map(|c| c.spans.len()).collect();
    assert_eq!(sizes[..3], [8, 8, 8]);
    assert!(sizes.len() > 10 && sizes[3..].iter().all(|n| *n == 4), "{sizes:?}");
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(bench.books(slot).await.delivered, 8);
}

/// One span with a prompt of 200 kB, to a destination that takes at most `limit` bytes.
async fn one_large(limit: usize, private: bool) -> (Bench, std::sync::Arc<Scripted>, Slot) {
    let bench = Bench::new();
    let adapter = Scripted::new(LIMITS, move |call| {
        if call.bytes > limit { isolate(true).into() } else { Answer::Delivered.into() }
    });
    let mut destination = destination("a");
    destination.privacy_mode = private;
    bench.change(destination, Ok(adapter.clone()));
    let slot = bench.slot("a");
    let span = SpanBuilder {
        trace_id: [7; 16],
        span_id: 1u64.to_be_bytes(),
        attributes: vec![("gen_ai.prompt".to_owned(), "words ".repeat(33_333).as_str().into())],
        ..SpanBuilder::default()
    };
    let mut out = Vec::new();
    resource_spans(&[], "test", "1", &[span], &mut out);
    let payload = Payload::new(out.into(), 1);
    bench.append_record(record(payload, 1, vec![route(slot, SpanSet::all(1))])).await;
    bench.quiet().await;
    (bench, adapter, slot)
}

#[tokio::test(start_paused = true)]
async fn a_span_that_is_too_large_is_made_smaller() {
    let (bench, adapter, slot) = one_large(60_000, false).await;
    let calls = adapter.calls();
    assert_eq!(calls.len(), 2);
    // Nothing is known to pass, so a quarter is tried.
    assert!(calls[1].bytes <= calls[0].bytes / 4 && calls[1].bytes > 49_000, "{}", calls[1].bytes);
    assert_eq!(calls[1].token, format!("{}-truncated", calls[0].token));
    assert_eq!(calls[1].spans, calls[0].spans, "the books know the span by its place");
    assert!(bench.dead_letters(slot).await.is_empty());
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_span_is_made_smaller_only_once() {
    let (bench, adapter, slot) = one_large(1_000, false).await;
    assert_eq!(adapter.calls().len(), 2);
    let letters = bench.dead_letters(slot).await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.reason, letter.status, letter.attempts), (DeadReason::TooLarge, Some(413), 2));
    assert!(letter.payload.len() > 199_000, "the dead letter is whole");
    assert_eq!(bench.books(slot).await.dead_lettered[DeadReason::TooLarge as usize], 1);
}

#[tokio::test(start_paused = true)]
async fn under_privacy_the_content_goes_before_anything_is_cut() {
    let (bench, adapter, slot) = one_large(1_000, true).await;
    let calls = adapter.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls[1].bytes < 200 && calls[1].private, "{}", calls[1].bytes);
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_keep_no_content_under_privacy() {
    for private in [false, true] {
        let bench = Bench::new();
        let adapter = Scripted::willing();
        adapter.then(|_| isolate(false).into());
        let mut with_mode = destination("a");
        with_mode.privacy_mode = private;
        bench.change(with_mode, Ok(adapter.clone()));
        let slot = bench.slot("a");
        bench.append(2, &[slot]).await;
        bench.quiet().await;
        assert!(adapter.calls().iter().all(|c| c.private == private));
        let letters = bench.dead_letters(slot).await;
        assert_eq!(letters.len(), 2);
        for letter in &letters {
            let holds = letter.payload.windows(PROMPT.len()).any(|w| w == PROMPT.as_bytes());
            assert_eq!(holds, !private);
            assert!(!letter.payload.is_empty() && letter.excerpt == "status 400" && letter.attempts == 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn privacy_switched_on_counts_for_what_is_not_yet_sent() {
    let bench = Bench::new();
    let adapter = Scripted::answers(vec![retry_after(503, secs(60))]);
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    sleep(secs(1)).await;
    assert!(bench.stats("a").last_error.is_some());
    let mut changed = destination("a");
    changed.privacy_mode = true;
    bench.change(changed, Ok(adapter.clone()));
    assert!(bench.stats("a").last_error.is_none(), "it may quote content");
    bench.quiet().await;
    assert_eq!(adapter.calls().iter().map(|c| c.private).collect::<Vec<_>>(), [false, true]);
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn words_about_content_are_not_kept_once_privacy_is_on() {
    let bench = Bench::new();
    let adapter = Scripted::new(LIMITS, |_| Reply::Later(secs(5), isolate(false)));
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    sleep(secs(1)).await;
    let mut changed = destination("a");
    changed.privacy_mode = true;
    bench.change(changed, Ok(adapter.clone()));
    bench.quiet().await;
    assert_eq!(adapter.calls().iter().map(|c| c.private).collect::<Vec<_>>(), [false], "already under way");
    let letters = bench.dead_letters(slot).await;
    assert_eq!(letters.len(), 1);
    let kept = [letters[0].excerpt.clone(), bench.stats("a").last_error.unwrap().excerpt];
    assert!(kept.iter().all(|words| words.starts_with("not kept")), "{kept:?}");
    assert!(!letters[0].payload.windows(PROMPT.len()).any(|w| w == PROMPT.as_bytes()));
    assert_eq!(bench.books(slot).await.dead_lettered[DeadReason::Rejected as usize], 1);
}
