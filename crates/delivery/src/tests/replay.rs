//! Dead letters on their way back: once each, at their pace, only while the destination takes anything.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracecast_log::{DeadReason, DropReason, LetterFilter, NewRecord, Origin, Outcome, Sequence, Slot};
use tracecast_otlp::{Payload, SpanSet};
use tracecast_sinks::Answer;

use super::harness::*;
use crate::{LastError, Observer, Replay, State};

const ALL: LetterFilter = LetterFilter { id: None, reason: None, from_unix_nano: None, to_unix_nano: None };

/// A destination that has refused so many spans, one a record, and takes everything from now on.
async fn refused(bench: &Bench, name: &str, spans: u32) -> (Slot, Arc<Scripted>) {
    let adapter = Scripted::new(LIMITS, |_| isolate(false).into());
    let slot = bench.add(name, &adapter);
    for _ in 0..spans {
        bench.append(1, &[slot]).await;
    }
    bench.quiet().await;
    adapter.then(|_| Answer::Delivered.into());
    (slot, adapter)
}

/// From a blocking task, which keeps the paused clock from running ahead while the log works.
async fn replay(bench: &Bench, name: &str, filter: LetterFilter) -> Replay {
    let (delivery, runtime, id) = (bench.delivery.clone(), tokio::runtime::Handle::current(), id(name));
    let replay = move || runtime.block_on(delivery.replay(id, filter));
    tokio::task::spawn_blocking(replay).await.expect("no panic").expect("known").expect("replayed")
}

/// Until nothing waits for its turn. The paused clock runs ahead while the log works, so the limit is a real one.
async fn follow(bench: &Bench) {
    let started = std::time::Instant::now();
    while bench.delivery.replaying(id("a")) > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_comes_back_once_and_is_gone() {
    let bench = Bench::new();
    let (slot, adapter) = refused(&bench, "a", 3).await;
    let letters = bench.dead_letters(slot).await;
    let one = LetterFilter { id: Some(letters[1].id), ..ALL };
    assert_eq!(replay(&bench, "a", one).await, Replay { matched: 1, requeued: 1, waiting: 0 });
    assert_eq!(replay(&bench, "a", one).await, Replay::default(), "it is not there any more");
    let other = LetterFilter { reason: Some(DeadReason::TooLarge), ..ALL };
    assert_eq!(replay(&bench, "a", other).await, Replay::default());
    bench.quiet().await;
    assert_eq!(adapter.taken().values().sum::<u32>(), 1);
    let left: Vec<u64> = bench.dead_letters(slot).await.iter().map(|l| l.id).collect();
    assert_eq!(left, [letters[0].id, letters[2].id]);
    assert!(bench.delivery.replay(uuid::Uuid::nil(), ALL).await.is_none());
    let books = bench.books(slot).await;
    assert_eq!((books.selected, books.requeued, books.delivered, books.dead_lettered[0]), (3, 1, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_again_is_a_letter_again_and_not_replayed_for_ever() {
    let bench = Bench::new();
    let (slot, adapter) = refused(&bench, "a", 2).await;
    adapter.then(|_| isolate(false).into());
    let before = adapter.calls().len();
    assert_eq!(replay(&bench, "a", ALL).await.requeued, 2);
    bench.quiet().await;
    // The batch of two, and each alone.
    assert!(adapter.calls().len() <= before + 3);
    assert_eq!(bench.dead_letters(slot).await.len(), 2);
    let books = bench.books(slot).await;
    assert_eq!((books.requeued, books.dead_lettered[0], books.pending), (2, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_go_at_once_and_the_rest_at_its_pace() {
    let bench = Bench::new();
    let (slot, adapter) = refused(&bench, "a", 1300).await;
    let first = replay(&bench, "a", ALL).await;
    assert_eq!(first, Replay { matched: 1300, requeued: 1000, waiting: 300 });
    assert_eq!(replay(&bench, "a", ALL).await.matched, 0, "those that wait are in line already");
    assert_eq!(bench.delivery.replaying(id("a")), 300);
    let started = Instant::now();
    follow(&bench).await;
    // A hundred a second, and a tenth of the thousand that were delivered meanwhile.
    assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
    bench.quiet().await;
    assert_eq!(adapter.taken().values().sum::<u32>(), 1300);
    assert_eq!(adapter.taken().len(), 1300, "once each");
    assert_eq!(bench.books(slot).await.delivered, 1300);
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_to_a_destination_that_takes_nothing() {
    let bench = Bench::new();
    let (slot, _) = refused(&bench, "a", 1100).await;
    assert!(bench.delivery.pause(id("a")));
    assert_eq!(replay(&bench, "a", ALL).await.waiting, 100);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((bench.delivery.replaying(id("a")), bench.state("a")), (100, State::Paused));
    assert_eq!(bench.dead_letters(slot).await.len(), 100, "they are dead letters still");
    bench.delivery.resume(id("a"));
    follow(&bench).await;
    bench.quiet().await;
    assert_eq!(bench.books(slot).await.delivered, 1100);
}

#[tokio::test(start_paused = true)]
async fn requeued_spans_share_no_batch_with_new_ones() {
    let bench = Bench::new();
    let (slot, adapter) = refused(&bench, "a", 2).await;
    bench.delivery.pause(id("a"));
    bench.append(3, &[slot]).await;
    replay(&bench, "a", ALL).await;
    bench.append(3, &[slot]).await;
    let before = adapter.calls().len();
    bench.delivery.resume(id("a"));
    bench.quiet().await;
    let calls: Vec<(bool, usize)> =
        adapter.calls()[before..].iter().map(|c| (c.replayed, c.spans.len())).collect();
    assert_eq!(calls, [(false, 3), (true, 2), (false, 3)]);
}

#[tokio::test(start_paused = true)]
async fn when_spans_were_first_seen_is_told_with_every_attempt_and_every_replay() {
    let bench = Bench::new();
    let adapter = Scripted::answers(vec![retry(503)]);
    let slot = bench.add("a", &adapter);
    bench.delivery.pause(id("a"));
    let times = [7_000, 5_000, 6_000].map(|before| crate::stats::unix_nano() - before);
    for received_unix_nano in times {
        let routes = vec![route(slot, SpanSet::all(1))];
        bench.append_record(NewRecord { received_unix_nano, ..record(payload(1, |_| 20), 1, routes) }).await;
    }
    bench.delivery.resume(id("a"));
    bench.quiet().await;
    let told = |calls: &[Call]| calls.iter().map(|c| c.first_seen_unix_nano).collect::<Vec<_>>();
    assert_eq!(told(&adapter.calls()), [Some(times[0]); 2], "the oldest of the batch, on both attempts");

    adapter.then(|_| isolate(false).into());
    let routes = vec![route(slot, SpanSet::all(1))];
    let last = NewRecord { received_unix_nano: times[1], ..record(payload(1, |_| 20), 1, routes) };
    let origin = Origin { via: "one, two".into(), ..Origin::default() };
    bench.append_record(NewRecord { origin, ..last }).await;
    bench.quiet().await;
    for _ in 0..2 {
        replay(&bench, "a", ALL).await;
        bench.quiet().await;
    }
    let calls = adapter.calls().split_off(2);
    assert_eq!(told(&calls), [Some(times[1]); 3]);
    assert!(calls.iter().all(|call| call.via == "one, two"), "{calls:?}");
    assert_eq!(bench.dead_letters(slot).await[0].received_unix_nano, times[1]);
    bench.books(slot).await;
}

/// Notes what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Observer for Notes {
    fn sending(&self, _: Slot, sequence: Sequence, spans: &SpanSet) {
        self.0.lock().unwrap().push(format!("sending {sequence} {}", spans.count()));
    }
    fn answered(&self, _: Slot, sequence: Sequence, spans: &SpanSet, trouble: Option<&LastError>) {
        let status = trouble.and_then(|t| t.status);
        self.0.lock().unwrap().push(format!("answered {sequence} {} {status:?}", spans.count()));
    }
    fn requeued(&self, _: Slot, sequence: Sequence, payload: &Payload) {
        self.0.lock().unwrap().push(format!("requeued {sequence} {}", payload.spans()));
    }
    fn settled(&self, _: Slot, sequence: Sequence, spans: &SpanSet, outcome: Outcome) {
        self.0.lock().unwrap().push(format!("settled {sequence} {} {outcome:?}", spans.count()));
    }
    fn given_up(&self, _: Slot, records: RangeInclusive<Sequence>, reason: DropReason) {
        self.0.lock().unwrap().push(format!("given up {records:?} {reason:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_told_the_whole_story() {
    let bench = Bench::new();
    let notes = Arc::new(Notes::default());
    bench.delivery.observe(notes.clone());
    let adapter = Scripted::answers(vec![retry(503), isolate(false)]);
    let slot = bench.add("a", &adapter);
    bench.append(1, &[slot]).await;
    bench.quiet().await;
    replay(&bench, "a", ALL).await;
    bench.quiet().await;
    let told = notes.0.lock().unwrap().clone();
    let mut expected = vec![
        "sending 1 1",
        "answered 1 1 Some(503)",
        "sending 1 1",
        "answered 1 1 Some(400)",
        "settled 1 1 DeadLettered(Rejected)",
        "requeued 2 1",
        "sending 2 1",
        "answered 2 1 None",
        "settled 2 1 Delivered",
    ];
    // The record may be on its way before whoever made it is told its number.
    let position = told.iter().position(|note| note == "requeued 2 1").expect("told");
    expected.retain(|note| *note != "requeued 2 1");
    expected.insert(position, "requeued 2 1");
    assert_eq!(told, expected);
    assert!(position >= 5);
}
