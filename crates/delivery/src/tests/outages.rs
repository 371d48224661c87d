//! Outages: what a failing destination is sent, how it comes back, and what is told of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracecast_log::LetterFilter;
use tracecast_sinks::{Answer, BatchLimits};

use super::harness::*;
use crate::{Options, State};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Answers 503 to everything.
fn down() -> std::sync::Arc<Scripted> {
    Scripted::new(LIMITS, |_| retry(503).into())
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_sends_one_small_probe_at_a_time() {
    let bench = Bench::new();
    let adapter = down();
    let slot = bench.add("a", &adapter);
    bench.delivery.pause(id("a"));
    for _ in 0..40 {
        bench.append(25, &[slot]).await;
    }
    bench.delivery.resume(id("a"));
    sleep(secs(600)).await;
    assert_eq!(bench.state("a"), State::Open);
    let calls = adapter.calls();
    let (before, probes) = calls.split_at(5);
    assert!(before.iter().all(|c| c.spans.len() == 100), "whole batches until it is believed");
    assert!(probes.iter().all(|c| c.spans.len() <= 10), "then at most ten spans");
    // 1 + 2 + 4 + ... + 256 s and up to 10 %: the ninth probe is at 511 s at the earliest, 562 s at the latest.
    assert_eq!(probes.len(), 9);
    for (pair, wait) in calls[4..].windows(2).zip([1, 2, 4, 8, 16, 32, 64, 128, 256]) {
        let waited = pair[1].at - pair[0].at;
        // Timers have a resolution of a millisecond.
        assert!(
            waited >= secs(wait) && waited <= secs(wait) * 11 / 10 + Duration::from_millis(2),
            "{waited:?}"
        );
    }
    assert!(bench.stats("a").retry_wait > secs(200));

    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!((bench.state("a"), bench.stats("a").retry_wait), (State::Healthy, Duration::ZERO));
    let taken = adapter.taken();
    assert!(taken.len() == 1_000 && taken.values().all(|n| *n == 1));
    assert_eq!(bench.books(slot).await.delivered, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_cut_from_a_waiting_batch_if_there_is_nothing_new() {
    let bench = Bench::new();
    let adapter = down();
    let slot = bench.add("a", &adapter);
    bench.append(100, &[slot]).await;
    sleep(secs(120)).await;
    assert_eq!(bench.state("a"), State::Open);
    let calls = adapter.calls();
    let whole = calls.iter().take_while(|c| c.spans.len() == 100).count();
    assert_eq!(whole, 5);
    // The same ten again and again: no more than one piece is cut off.
    let tokens: HashSet<&str> = calls[whole..].iter().map(|c| c.token.as_str()).collect();
    assert_eq!(tokens.len(), 1);
    assert!(calls[whole..].iter().all(|c| c.spans.len() == 10));
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(adapter.calls().len(), calls.len() + 2);
    assert!(adapter.taken().len() == 100 && adapter.taken().values().all(|n| *n == 1));
    assert_eq!(bench.books(slot).await.delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn at_most_a_fifth_of_the_requests_are_retries() {
    let bench = Bench::new();
    let limits = BatchLimits { spans_max: 1, concurrency_max: 8, ..LIMITS };
    let adapter = Scripted::new(limits, |_| Answer::Delivered.into());
    // Every third batch fails at its first try; every request takes a second.
    let mut failed = HashSet::new();
    adapter.then(move |call| {
        let sequence = call.spans[0].0;
        let fails = sequence % 3 == 0 && failed.insert(sequence);
        Reply::Later(secs(1), if fails { retry(503) } else { Answer::Delivered })
    });
    let slot = bench.add("a", &adapter);
    for _ in 0..120 {
        bench.append(1, &[slot]).await;
    }
    bench.quiet().await;
    let retries: Vec<Instant> = adapter.calls().iter().filter(|c| c.attempt > 0).map(|c| c.at).collect();
    assert_eq!(retries.len(), 40);
    // Eight places: one for retries.
    assert!(retries.windows(2).all(|pair| pair[1] - pair[0] >= secs(1)));
    assert_eq!(bench.books(slot).await.delivered, 120);
}

#[tokio::test(start_paused = true)]
async fn concurrency_grows_from_two_with_success() {
    let bench = Bench::new();
    let limits = BatchLimits { spans_max: 1, concurrency_max: 64, ..LIMITS };
    let adapter = Scripted::new(limits, |_| Reply::Later(secs(1), Answer::Delivered));
    let slot = bench.add("a", &adapter);
    for _ in 0..1_500 {
        bench.append(1, &[slot]).await;
    }
    bench.quiet().await;
    let calls = adapter.calls();
    let at_first = calls.iter().filter(|c| c.at == calls[0].at).count();
    assert_eq!((at_first, adapter.most_in_flight()), (2, 32));
    assert_eq!(bench.books(slot).await.delivered, 1_500);
}

#[tokio::test(start_paused = true)]
async fn days_of_failures_pause_and_a_success_ends_it() {
    let options = Options { pause_after: secs(2 * 3600), ..Options::default() };
    let bench = Bench::with(options);
    let adapter = Scripted::new(LIMITS, |_| Answer::Auth(failure(401)).into());
    let slot = bench.add("a", &adapter);
    bench.append(3, &[slot]).await;
    sleep(secs(3 * 3600)).await;
    assert_eq!(bench.state("a"), State::AutoPaused);
    let before = adapter.calls().len();
    sleep(secs(10 * 3600)).await;
    let probes = adapter.calls().len() - before;
    assert!((9..=10).contains(&probes), "one per hour: {probes}");
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(bench.state("a"), State::Healthy);
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.pending), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn changes_of_state_are_kept_with_their_trouble() {
    let bench = Bench::new();
    let adapter = Scripted::answers(vec![Answer::Auth(failure(401))]);
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    bench.delivery.pause(id("a"));
    let history = bench.delivery.history(id("a"));
    let shown: Vec<_> = history
        .iter()
        .map(|t| (t.from, t.to, t.times, t.error.as_ref().map(|e| (e.status, e.excerpt.as_str()))))
        .collect();
    let refused = Some((Some(401), "status 401"));
    assert_eq!(
        shown,
        [
            (State::Healthy, State::HeldAuth, 1, refused),
            (State::HeldAuth, State::Healthy, 1, None),
            (State::Healthy, State::Paused, 1, refused),
        ]
    );
    let entered: Vec<_> = bench.stats("a").transitions.into_iter().filter(|(_, n)| *n > 0).collect();
    assert_eq!(entered, [("healthy", 1), ("held_auth", 1), ("paused", 1)]);

    let mut private = destination("a");
    private.privacy_mode = true;
    bench.change(private, Ok(adapter));
    assert!(bench.delivery.history(id("a")).iter().all(|t| t.error.is_none()), "it may quote content");
    assert!(bench.delivery.history(id("unknown")).is_empty());
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn what_days_of_failures_have_cost_is_offered_until_it_is_sent_again() {
    let options = Options { max_age: secs(3600), pause_after: secs(2 * 3600), ..Options::default() };
    let bench = Bench::with(options);
    let adapter = Scripted::new(LIMITS, |_| Answer::Auth(failure(401)).into());
    let slot = bench.add("a", &adapter);
    for _ in 0..5 {
        bench.append(3, &[slot]).await;
        sleep(secs(1_700)).await;
    }
    assert_eq!(bench.state("a"), State::AutoPaused);
    assert_eq!(bench.stats("a").gap, None, "it is not over");
    // The first three records have grown too old by now.
    adapter.then(|_| Answer::Delivered.into());
    bench.delivery.resume(id("a"));
    bench.quiet().await;
    let gap = bench.stats("a").gap.expect("an offer");
    assert_eq!((gap.lost.dropped, gap.lost.dead_lettered), (9, 0));
    assert_eq!(bench.log.books(slot).delivered, 6);
    assert!(gap.since_unix_nano < gap.until_unix_nano);

    // A process that comes after this one makes the same offer.
    let memo = bench.delivery.memos().pop().expect("something to remember").1;
    let next = Bench::new();
    next.add("a", &Scripted::willing());
    next.delivery.recall(id("a"), memo);
    assert_eq!(next.stats("a").gap, Some(gap));

    let all = LetterFilter { id: None, reason: None, from_unix_nano: None, to_unix_nano: None };
    bench.delivery.replay(id("a"), all).await.expect("known").expect("replayed");
    assert_eq!(bench.stats("a").gap, None, "taken up");
    bench.books(slot).await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_that_a_restart_lies_in_is_one_gap() {
    let patience = Options { pause_after: secs(2 * 3600), ..Options::default() };
    let bench = Bench::with(patience.clone());
    let adapter = Scripted::new(LIMITS, |_| Answer::Auth(failure(401)).into());
    let slot = bench.add("a", &adapter);
    bench.append(3, &[slot]).await;
    sleep(secs(3 * 3600)).await;
    assert_eq!(bench.state("a"), State::AutoPaused);
    let memo = bench.delivery.memos().pop().expect("something to remember").1;

    let next = Bench::with(patience);
    let adapter = Scripted::new(LIMITS, |_| isolate(false).into());
    let slot = next.add("a", &adapter);
    next.delivery.recall(id("a"), memo.clone());
    next.append(2, &[slot]).await;
    next.quiet().await;
    // Refused, and so alive: the gap is over with the first answer, before anything is buried.
    assert_eq!(next.stats("a").gap, None);
    assert!(next.delivery.memos().iter().all(|(_, memo)| memo.gaps.open.is_none()));
    assert!(memo.gaps.open.is_some_and(|(_, _, paused)| paused));
}

#[tokio::test(start_paused = true)]
async fn every_change_of_state_is_told_once_and_outside_of_any_lock() {
    let bench = Bench::new();
    let told: Arc<Mutex<Vec<(String, State, State)>>> = Arc::default();
    let (notes, delivery) = (told.clone(), bench.delivery.clone());
    bench.delivery.watch(Arc::new(move |destination, change| {
        // Whoever is told may ask.
        assert!(delivery.stats(destination.id).is_some());
        notes.lock().unwrap().push((destination.name.clone(), change.from, change.to));
    }));
    let adapter = Scripted::answers(vec![Answer::Auth(failure(401))]);
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    bench.delivery.pause(id("a"));
    bench.delivery.pause(id("a"));
    let change = |from, to| ("a".to_owned(), from, to);
    assert_eq!(
        *told.lock().unwrap(),
        [
            change(State::Healthy, State::HeldAuth),
            change(State::HeldAuth, State::Healthy),
            change(State::Healthy, State::Paused),
        ]
    );
    bench.books(slot).await;
}

#[tokio::test(start_paused = true)]
async fn spans_made_here_are_for_one_destination_and_new() {
    let bench = Bench::new();
    let (adapter, other) = (Scripted::willing(), Scripted::willing());
    let slots = [bench.add("a", &adapter), bench.add("b", &other)];
    bench.delivery.pause(id("a"));
    bench.append(1, &slots).await;
    let (delivery, runtime) = (bench.delivery.clone(), tokio::runtime::Handle::current());
    let inform = move || runtime.block_on(delivery.inform(id("a"), payload(2, |_| 20)));
    let informed = tokio::task::spawn_blocking(inform).await.expect("no panic");
    assert_eq!(informed.expect("known").expect("kept"), 2);
    assert!(bench.delivery.inform(uuid::Uuid::nil(), payload(1, |_| 20)).await.is_none());
    bench.delivery.resume(id("a"));
    bench.quiet().await;
    let calls: Vec<_> = adapter.calls().iter().map(|c| (c.spans.len(), c.replayed, c.via.len())).collect();
    assert_eq!(calls, [(1, false, 0), (2, false, 0)], "apart from what clients sent, and not as a replay");
    assert!(adapter.calls().iter().all(|call| call.first_seen_unix_nano.is_some()));
    assert_eq!(other.calls().len(), 1);
    let books = bench.books(slots[0]).await;
    assert_eq!((books.accepted, books.selected, books.requeued, books.delivered), (1, 1, 2, 3));
    assert_eq!(bench.log.accepted(), 1);
}
