//! Batches that are sent again by the schedule: when, and what ends the waiting early.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracecast_destination::Retry;
use tracecast_log::DropReason;
use tracecast_sinks::Answer;

use super::harness::*;
use crate::{Options, State};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const SCHEDULE_SECS: [u64; 7] = [5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR];

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn down() -> Arc<Scripted> {
    Scripted::new(LIMITS, |_| retry(503).into())
}

/// Up for a week, so that the schedule is seen to its end.
fn bench() -> Bench {
    Bench::with(Options { max_age: secs(7 * 24 * HOUR), ..Options::default() })
}

fn add(bench: &Bench, adapter: &Arc<Scripted>) -> u32 {
    let mut scheduled = destination("a");
    scheduled.retry = Retry::Schedule;
    bench.change(scheduled, Ok(adapter.clone()));
    bench.slot("a")
}

/// Waits between the calls, each as scheduled, 20 % more or less.
fn assert_scheduled(calls: &[Call]) {
    for (pair, wait) in calls.windows(2).zip(SCHEDULE_SECS.iter().chain(std::iter::repeat(&(10 * HOUR)))) {
        let waited = (pair[1].at - pair[0].at).as_secs_f64();
        let wait = *wait as f64;
        assert!(waited >= wait * 0.8 - 0.01 && waited <= wait * 1.2 + 0.01, "{waited} s, not {wait} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_sent_again_by_the_schedule_whatever_the_circuit_says() {
    let bench = bench();
    let adapter = down();
    let slot = add(&bench, &adapter);
    bench.append(50, &[slot]).await;
    sleep(secs(70 * HOUR)).await;
    // 17.6 h to the seventh, then one every 8 to 12 h.
    let calls = adapter.calls();
    assert!((10..=14).contains(&calls.len()), "{}", calls.len());
    assert_scheduled(&calls);
    assert!(calls[..5].iter().all(|call| call.spans.len() == 50 && call.token == calls[0].token));
    assert_eq!(bench.state("a"), State::Open);
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert!(adapter.taken().len() == 50 && adapter.taken().values().all(|n| *n == 1));
    assert_eq!(bench.books(slot).await.delivered, 50);
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_tried_at_once_and_its_success_ends_the_waiting() {
    let bench = bench();
    let adapter = down();
    let slot = add(&bench, &adapter);
    bench.append(1, &[slot]).await;
    sleep(secs(6 * HOUR)).await;
    let tried = adapter.calls().len();
    assert_eq!(tried, 5, "at 0, 5 s, 5 min, 35 min and 2.6 h; the next is 4 h later at the earliest");
    adapter.then(|_| Answer::Delivered.into());
    let began = Instant::now();
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    let waited = Instant::now() - began;
    assert!(waited < secs(2), "{waited:?}");
    assert_eq!(adapter.taken().len(), 2);
    assert_eq!(bench.books(slot).await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn live_traffic_goes_on_probing_when_everything_it_may_hold_waits() {
    let bench = bench();
    let adapter = down();
    let slot = add(&bench, &adapter);
    for _ in 0..12 * 60 {
        bench.append(1, &[slot]).await;
        sleep(secs(MINUTE)).await;
    }
    // Eight batches may be outstanding. They would leave hours without a probe.
    let calls = adapter.calls();
    let longest = calls.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
    assert!(longest <= secs(7 * MINUTE), "{longest:?}");
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert!(adapter.taken().len() == 720 && adapter.taken().values().all(|n| *n == 1));
    assert_eq!(bench.books(slot).await.delivered, 720);
}

#[tokio::test(start_paused = true)]
async fn what_the_receiver_asks_for_counts_more_and_the_horizon_is_age() {
    let bench = Bench::new();
    let adapter = Scripted::answers(vec![retry_after(429, secs(40)), retry_after(429, secs(40))]);
    let slot = add(&bench, &adapter);
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    let calls = adapter.calls();
    assert_eq!(calls.len(), 3);
    for pair in calls.windows(2) {
        let waited = pair[1].at - pair[0].at;
        assert!(waited >= secs(40) && waited <= secs(45), "{waited:?}");
    }
    adapter.then(|_| retry(503).into());
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    // Seven tries within 24 h, or eight: the last wait ends at 22.1 h at the earliest, at 33 h at the latest.
    assert!((7..=8).contains(&(adapter.calls().len() - 3)), "{}", adapter.calls().len());
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.dropped[DropReason::Expired as usize]), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn resume_and_a_change_of_the_option_mean_now() {
    let bench = bench();
    let adapter = down();
    let slot = add(&bench, &adapter);
    bench.append(1, &[slot]).await;
    sleep(secs(HOUR)).await;
    assert_eq!(adapter.calls().len(), 4);
    assert!(bench.delivery.resume(id("a")));
    sleep(secs(1)).await;
    assert_eq!(adapter.calls().len(), 5, "now, and not in hours");
    bench.add("a", &adapter);
    sleep(secs(10 * MINUTE)).await;
    assert!(adapter.calls().len() > 10, "backoff again: {}", adapter.calls().len());
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(bench.books(slot).await.delivered, 1);
}
