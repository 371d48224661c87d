//! A destination that answers well and too slowly: what is told of it, and that it is sent to as before.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracecast_sinks::{Answer, BatchLimits};

use super::harness::*;
use crate::State;

/// Takes one span at a time, each in ten seconds.
fn slow(concurrency_max: usize) -> Arc<Scripted> {
    let limits = BatchLimits { spans_max: 1, concurrency_max, ..LIMITS };
    Scripted::new(limits, |_| Reply::Later(Duration::from_secs(10), Answer::Delivered))
}

/// The states it came to, with what was said of them.
fn told(bench: &Bench) -> Vec<(State, Option<String>)> {
    let history = bench.delivery.history(id("a")).into_iter();
    history.map(|change| (change.to, change.error.map(|error| error.excerpt))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_longer_than_two_attempts_degrades_it_until_it_has_caught_up() {
    let bench = Bench::new();
    let slot = bench.add("a", &slow(1));
    for _ in 0..8 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.state("a"), State::Healthy);
    for _ in 0..3 {
        bench.append(1, &[slot]).await;
    }
    // The wait for company and two attempts of thirty seconds.
    sleep(Duration::from_millis(250)).await;
    assert_eq!((bench.state("a"), bench.stats("a").is_lagging), (State::Degraded, true));
    // What is left of the first eight came a minute and more ago; the other three are younger than an attempt.
    sleep(Duration::from_secs(15)).await;
    assert_eq!(bench.state("a"), State::Degraded);
    sleep(Duration::from_secs(6)).await;
    assert_eq!((bench.state("a"), bench.stats("a").is_lagging), (State::Healthy, false));
    bench.quiet().await;
    let why = "the oldest pending event waits for more than 60.2 s".to_owned();
    assert_eq!(told(&bench), [(State::Degraded, Some(why)), (State::Healthy, None)]);
    assert_eq!(bench.books(slot).await.delivered, 11);
}

#[tokio::test(start_paused = true)]
async fn it_is_sent_no_less_for_that() {
    let bench = Bench::new();
    let adapter = slow(8);
    let slot = bench.add("a", &adapter);
    for _ in 0..200 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(100)).await;
    assert_eq!(bench.state("a"), State::Degraded);
    // It went on to grow to all there is, and stayed there.
    sleep(Duration::from_secs(50)).await;
    assert_eq!((bench.state("a"), bench.stats("a").in_flight), (State::Degraded, 8));
    bench.quiet().await;
    assert_eq!((bench.state("a"), adapter.most_in_flight()), (State::Healthy, 8));
    assert_eq!(bench.books(slot).await.delivered, 200);
}

#[tokio::test(start_paused = true)]
async fn after_a_pause_it_lags_until_what_came_meanwhile_is_sent() {
    let bench = Bench::new();
    let slot = bench.add("a", &slow(1));
    bench.delivery.pause(id("a"));
    for _ in 0..3 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.state("a"), State::Paused);
    bench.delivery.resume(id("a"));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.state("a"), State::Degraded);
    bench.quiet().await;
    assert_eq!(bench.state("a"), State::Healthy);
    let states: Vec<State> = told(&bench).into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, [State::Paused, State::Degraded, State::Healthy]);
    assert_eq!(bench.books(slot).await.delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_told_of_as_failing() {
    let bench = Bench::new();
    let adapter = Scripted::new(LIMITS, |_| retry(503).into());
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!((bench.state("a"), bench.stats("a").is_lagging), (State::Open, true));
    assert!(told(&bench).iter().all(|(_, error)| error.as_deref() == Some("status 503")));
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(bench.state("a"), State::Healthy);
    assert_eq!(bench.books(slot).await.delivered, 1);
}
