//! Outages: what a failing destination is sent, how it comes back, and what is told of it.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
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
