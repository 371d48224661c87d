//! Coming, changing and going: of destinations, of the backlog, of the process.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracecast_destination::{Destination, RateLimit};
use tracecast_log::{DropReason, Durability, Options as LogOptions, Subscriber};
use tracecast_sinks::{Answer, BatchLimits};

use super::harness::*;
use crate::{Options, Standing, State};

const ONE_BY_ONE: BatchLimits = BatchLimits { spans_max: 1, concurrency_max: 1, ..LIMITS };

fn hanging() -> Arc<Scripted> {
    Scripted::new(ONE_BY_ONE, |_| Reply::Hang)
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_hangs_delays_nobody() {
    let bench = Bench::with(Options { attempt_timeout: Duration::from_secs(30), ..Options::default() });
    let (dead, live) = (hanging(), Scripted::willing());
    let slots = [bench.add("dead", &dead), bench.add("live", &live)];
    for _ in 0..50 {
        bench.append(2, &slots).await;
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(live.taken().len(), 100);
    assert!(bench.stats("live").latency_p99_ms.unwrap() < 250.0);
    assert_eq!(bench.stats("dead").in_flight, 1);
    assert!(bench.delivery.pause(id("dead")));
    assert_eq!(bench.books(slots[1]).await.delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn giving_up_spares_what_is_in_flight_and_what_is_newer() {
    let bench = Bench::new();
    let adapter = Scripted::new(ONE_BY_ONE, |_| Reply::Later(Duration::from_secs(10), Answer::Delivered));
    let slot = bench.add("a", &adapter);
    let mut sequences = Vec::new();
    for _ in 0..10 {
        sequences.push(bench.append(1, &[slot]).await);
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.stats("a").in_flight, 1);
    bench.delivery.give_up(slot, sequences[5]);
    bench.quiet().await;
    let sent: Vec<u64> = adapter.taken().keys().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sent, [&sequences[..1], &sequences[6..]].concat());
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.dropped[DropReason::BacklogFull as usize]), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn giving_up_takes_batches_that_wait_to_be_sent_again() {
    let bench = Bench::new();
    let adapter = Scripted::answers(vec![retry_after(503, Duration::from_secs(3000))]);
    let slot = bench.add("a", &adapter);
    let first = bench.append(2, &[slot]).await;
    let second = bench.append(3, &[slot]).await;
    sleep(Duration::from_secs(1)).await;
    bench.delivery.give_up(slot, first);
    bench.quiet().await;
    assert_eq!(adapter.calls()[1].spans, [(second, 0), (second, 1), (second, 2)]);
    assert_ne!(adapter.calls()[0].token, adapter.calls()[1].token, "another composition");
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.dropped[DropReason::BacklogFull as usize]), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn deleting_gives_the_backlog_up_and_lets_requests_end() {
    let bench = Bench::new();
    let adapter = Scripted::new(ONE_BY_ONE, |_| Reply::Later(Duration::from_secs(10), Answer::Delivered));
    let slot = bench.add("a", &adapter);
    for _ in 0..6000 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    bench.remove("a");
    assert!(bench.delivery.stats(id("a")).is_none());
    // A record that was decided before the deletion and is committed after it.
    bench.append(2, &[slot]).await;
    bench.quiet().await;
    assert!(Instant::now() - start <= Duration::from_secs(10));
    assert_eq!(adapter.taken().len(), 1);
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.dropped[DropReason::DestinationDeleted as usize]), (1, 6001));
    assert_eq!(books.pending, 0);
}

#[tokio::test(start_paused = true)]
async fn deleting_gives_up_what_fails_afterwards() {
    let bench = Bench::new();
    let adapter = Scripted::new(LIMITS, |_| Reply::Later(Duration::from_secs(10), isolate(false)));
    let slot = bench.add("a", &adapter);
    bench.append(4, &[slot]).await;
    sleep(Duration::from_secs(1)).await;
    bench.remove("a");
    bench.quiet().await;
    assert_eq!(adapter.calls().len(), 1);
    assert_eq!(bench.books(slot).await.dropped[DropReason::DestinationDeleted as usize], 4);
}

#[tokio::test(start_paused = true)]
async fn records_for_a_destination_not_yet_applied_are_kept_for_it() {
    let bench = Bench::new();
    let slot = bench.slot("late");
    let given_up = bench.append(1, &[slot]).await;
    let kept = bench.append(2, &[slot]).await;
    bench.delivery.give_up(slot, given_up);
    let adapter = Scripted::willing();
    bench.add("late", &adapter);
    bench.quiet().await;
    assert_eq!(adapter.taken().into_keys().collect::<Vec<_>>(), [(kept, 0), (kept, 1)]);
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.dropped[DropReason::BacklogFull as usize]), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_comes_back_takes_records_again() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    let slot = bench.add("a", &adapter);
    bench.remove("a");
    bench.append(1, &[slot]).await;
    bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.dropped[DropReason::DestinationDeleted as usize]), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn pause_keeps_the_backlog_and_resume_sends_it() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    let slot = bench.add("a", &adapter);
    assert!(bench.delivery.pause(id("a")) && !bench.delivery.pause(id("unknown")));
    for _ in 0..3 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((adapter.calls().len(), bench.state("a")), (0, State::Paused));
    assert!(bench.delivery.resume(id("a")) && !bench.delivery.resume(id("unknown")));
    bench.quiet().await;
    assert_eq!(bench.state("a"), State::Healthy);
    assert_eq!(bench.books(slot).await.delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn switched_off_is_paused() {
    let bench = Bench::new();
    let adapter = Scripted::willing();
    let slot = bench.add("a", &adapter);
    let mut off = destination("a");
    off.enabled = false;
    bench.change(off, Ok(adapter.clone()));
    bench.append(1, &[slot]).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((adapter.calls().len(), bench.state("a")), (0, State::Paused));
    bench.add("a", &adapter);
    bench.quiet().await;
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_cannot_be_built_is_held_and_told() {
    let bench = Bench::new();
    let errors = bench.change(destination("a"), Err("config.url: no host".into()));
    assert_eq!(errors, [(id("a"), "config.url: no host".to_owned())]);
    let slot = bench.slot("a");
    bench.append(1, &[slot]).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.state("a"), State::HeldConfig);
    assert_eq!(bench.stats("a").last_error.unwrap().excerpt, "config.url: no host");
    assert_eq!(bench.apply().len(), 1, "still told");
    let adapter = Scripted::willing();
    assert!(bench.change(destination("a"), Ok(adapter)).is_empty());
    bench.quiet().await;
    assert_eq!(bench.state("a"), State::Healthy);
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_requests_end_and_starts_nothing() {
    let bench = Bench::new();
    let adapter = Scripted::new(ONE_BY_ONE, |_| Reply::Later(Duration::from_secs(3), Answer::Delivered));
    let slot = bench.add("a", &adapter);
    for _ in 0..5 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    bench.delivery.shutdown(Duration::from_secs(10)).await;
    let took = Instant::now() - start;
    assert!(took <= Duration::from_secs(3), "{took:?}");
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.pending), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn shutdown_returns_within_its_grace_with_everything_hung() {
    let bench = Bench::new();
    let slots: Vec<_> = (0..20).map(|n| bench.add(&format!("d{n}"), &hanging())).collect();
    for _ in 0..3 {
        bench.append(1, &slots).await;
    }
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    bench.delivery.shutdown(Duration::from_secs(2)).await;
    assert!(Instant::now() - start < Duration::from_millis(2_100));
    bench.quiet().await;
    for slot in slots {
        assert_eq!(bench.books(slot).await.pending, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn draining_sends_what_it_can_and_counts_the_rest() {
    let bench = Bench::new();
    let (dead, live) = (hanging(), Scripted::willing());
    let slots = [bench.add("dead", &dead), bench.add("live", &live)];
    for _ in 0..5 {
        bench.append(2, &slots).await;
    }
    sleep(Duration::from_millis(10)).await;
    let start = Instant::now();
    bench.delivery.drain(Duration::from_secs(5)).await;
    assert!(Instant::now() - start < Duration::from_millis(5_100));
    let (dead, live) = (bench.books(slots[0]).await, bench.books(slots[1]).await);
    assert_eq!((dead.delivered, dead.dropped[DropReason::Shutdown as usize], dead.pending), (0, 10, 0));
    assert_eq!((live.delivered, live.pending), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_backlog_goes_first_with_the_same_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        || LogOptions { dir: dir.path().join("log"), durability: Durability::Buffered, ..log_options() };
    let limits = BatchLimits { spans_max: 4, concurrency_max: 1, ..LIMITS };
    let mut before = Vec::new();
    let token;
    {
        let bench = Bench::over(open(options()), Options::default());
        let adapter = Scripted::new(limits, |_| retry_after(503, Duration::from_secs(3000)).into());
        let (slot, gone) = (bench.add("a", &adapter), bench.add("gone", &hanging()));
        for spans in [4, 3, 6] {
            before.push(bench.append(spans, &[slot, gone]).await);
        }
        sleep(Duration::from_secs(1)).await;
        token = adapter.calls()[0].token.clone();
        bench.delivery.shutdown(Duration::from_secs(1)).await;
        assert_eq!(bench.books(slot).await.pending, 13);
    }
    let log = open(options());
    let bench = Bench::over(log, Options::default());
    let adapter = Scripted::new(limits, |_| Answer::Delivered.into());
    let slot = bench.add("a", &adapter);
    // A record committed before recovery is handed over still comes after it.
    bench.delivery.pause(id("a"));
    let fresh = bench.append(1, &[slot]).await;
    bench.delivery.recover();
    bench.delivery.resume(id("a"));
    bench.quiet().await;
    let calls = adapter.calls();
    assert_eq!(calls[0].token, token);
    let sent: Vec<SpanKey> = calls.iter().flat_map(|c| c.spans.clone()).collect();
    assert!(sent.is_sorted());
    assert_eq!((sent.len(), sent.last()), (14, Some(&(fresh, 0))));
    let (books, gone) = (bench.books(slot).await, bench.books(bench.slot("gone")).await);
    assert_eq!((books.delivered, books.pending), (14, 0));
    assert_eq!((gone.dropped[DropReason::DestinationDeleted as usize], gone.pending), (13, 0));
}

#[tokio::test(start_paused = true)]
async fn resume_and_a_new_configuration_mean_now() {
    let hour = Duration::from_secs(3600);
    let bench =
        Bench::with(Options { retry_base: 1000 * hour, retry_cap: 1000 * hour, ..Options::default() });
    let adapter = Scripted::answers(vec![retry(503), retry(503)]);
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((adapter.calls().len(), bench.state("a")), (1, State::Degraded));
    assert!(bench.delivery.resume(id("a")));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(adapter.calls().len(), 2);
    let mut renamed = destination("a");
    renamed.name = "b".into();
    bench.change(renamed, Ok(adapter.clone()));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((adapter.calls().len(), bench.state("a")), (3, State::Healthy));
    assert_eq!(bench.books(slot).await.delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_retired_destination_keeps_its_backlog_until_it_is_named_again() {
    let bench = Bench::new();
    let (adapter, other) = (Scripted::willing(), Scripted::willing());
    let slots = [bench.add("a", &adapter), bench.add("b", &other)];
    bench.stand("a", Standing::Retired);
    bench.append(2, &slots).await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((adapter.calls().len(), bench.state("a")), (0, State::Retired));
    assert_eq!((other.calls().len(), bench.state("b")), (1, State::Healthy));
    // Neither a resume nor another edit brings it back.
    bench.delivery.resume(id("a"));
    let renamed = Arc::new(Destination { name: "c".into(), ..destination("a") });
    bench.delivery.put(slots[0], &renamed, Standing::Retired).unwrap();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((adapter.calls().len(), bench.state("a")), (0, State::Retired));
    bench.stand("a", Standing::Active);
    bench.quiet().await;
    assert_eq!((adapter.taken().len(), bench.state("a")), (2, State::Healthy));
    assert_eq!(bench.books(slots[0]).await.delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_stands_still_at_the_start_sends_nothing_of_its_backlog() {
    for (standing, state) in [(Standing::Paused, State::Paused), (Standing::Retired, State::Retired)] {
        let dir = tempfile::tempdir().unwrap();
        let options = || LogOptions { dir: dir.path().to_path_buf(), ..log_options() };
        let bench = Bench::over(open(options()), Options::default());
        let slot = bench.add("a", &Scripted::new(LIMITS, |_| Reply::Hang));
        bench.append(3, &[slot]).await;
        bench.delivery.shutdown(Duration::ZERO).await;
        bench.books(slot).await;
        drop(bench);

        let bench = Bench::over(open(options()), Options::default());
        let adapter = Scripted::willing();
        bench.know("a", &adapter);
        bench.stand("a", standing);
        bench.delivery.recover();
        sleep(Duration::from_secs(3600)).await;
        assert_eq!((adapter.calls().len(), bench.state("a")), (0, state));
        match standing {
            Standing::Paused => assert!(bench.delivery.resume(id("a"))),
            _ => bench.stand("a", Standing::Active),
        }
        bench.quiet().await;
        assert_eq!(bench.books(slot).await.delivered, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_spreads_requests_and_can_be_lifted() {
    let bench = Bench::new();
    let adapter = Scripted::new(BatchLimits { spans_max: 1, ..LIMITS }, |_| Answer::Delivered.into());
    let mut limited = destination("a");
    limited.rate_limit = Some(RateLimit::RequestsPerSecond(2.0));
    bench.change(limited, Ok(adapter.clone()));
    let slot = bench.slot("a");
    for _ in 0..40 {
        bench.append(1, &[slot]).await;
    }
    sleep(Duration::from_secs(10)).await;
    let calls = adapter.calls();
    assert!((20..=23).contains(&calls.len()), "{}", calls.len());
    assert!(calls.windows(4).all(|four| four[3].at - four[0].at >= Duration::from_millis(499)));
    assert_eq!(bench.state("a"), State::Healthy);
    bench.add("a", &adapter);
    let start = Instant::now();
    bench.quiet().await;
    assert!(Instant::now() - start < Duration::from_secs(1));
    assert_eq!(bench.books(slot).await.delivered, 40);
}

#[tokio::test(start_paused = true)]
async fn edits_of_one_destination_under_load_delay_nobody() {
    let bench = Bench::new();
    let (edited, other) = (Scripted::willing(), Scripted::willing());
    let slots = [bench.add("a", &edited), bench.add("b", &other)];
    for n in 0..200 {
        let mut changed = destination("a");
        changed.name = format!("a{n}");
        bench.change(changed, Ok(edited.clone()));
        bench.append(1, &slots).await;
        sleep(Duration::from_millis(10)).await;
    }
    bench.quiet().await;
    assert!(bench.stats("b").latency_p99_ms.unwrap() < 250.0);
    assert!(edited.taken().len() == 200 && edited.taken().values().all(|n| *n == 1));
    assert_eq!(bench.books(slots[1]).await.delivered, 200);
}
