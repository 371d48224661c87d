//! More than a queue holds: references stay few, and what is only on disk is sent, given up and expired like the
//! rest.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Duration, sleep};
use tracecast_log::{
    Books, DropReason, Durability, Options as LogOptions, Outcome, Sequence, Slot, Subscriber,
};
use tracecast_otlp::{Payload, SpanSet};
use tracecast_sinks::{Answer, BatchLimits};

use super::harness::*;
use crate::{LastError, Observer, Options};

const RECORDS: u64 = 1500;

fn options(dir: &tempfile::TempDir) -> LogOptions {
    LogOptions { dir: dir.path().join("log"), durability: Durability::Buffered, ..log_options() }
}

/// Answers 503 and names a wait that is longer than any test.
fn refusing() -> std::sync::Arc<Scripted> {
    Scripted::new(BatchLimits { spans_max: 20, ..LIMITS }, |_| {
        retry_after(503, Duration::from_secs(3000)).into()
    })
}

async fn fill(bench: &Bench, slots: &[Slot]) {
    for _ in 0..RECORDS {
        bench.append(2, slots).await;
    }
}

fn dropped(books: &Books, reason: DropReason) -> (u64, u64) {
    (books.dropped[reason as usize], books.pending)
}

#[tokio::test(start_paused = true)]
async fn a_destination_behind_holds_few_references_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::over(open(options(&dir)), Options::default());
    let (late, well) = (refusing(), Scripted::willing());
    let slots = [bench.add("late", &late), bench.add("well", &well)];
    fill(&bench, &slots).await;
    sleep(Duration::from_secs(1)).await;
    // 64 KiB of references of 256 bytes for the one, and one page more.
    assert!(bench.delivery.references() <= 2 * 256, "{}", bench.delivery.references());
    assert_eq!(well.taken().len() as u64, 2 * RECORDS, "the neighbour notices nothing");
    late.then(|_| Answer::Delivered.into());
    bench.delivery.resume(id("late"));
    // While it catches up new records come.
    for _ in 0..300 {
        bench.append(2, &slots).await;
    }
    bench.quiet().await;
    for adapter in [&late, &well] {
        let taken = adapter.taken();
        assert_eq!(taken.len() as u64, 2 * (RECORDS + 300));
        assert!(taken.values().all(|times| *times == 1), "a span was sent twice");
    }
    assert_eq!(bench.delivery.references(), 0);
    for slot in slots {
        let books = bench.books(slot).await;
        assert_eq!((books.delivered, books.pending), (2 * (RECORDS + 300), 0));
    }
}

/// Spans it was told of as dropped: one by one, and in records that were never read, of two spans each.
#[derive(Default)]
struct Dropped {
    told: AtomicU64,
    unread: AtomicU64,
}

impl Observer for Dropped {
    fn sending(&self, _: Slot, _: Sequence, _: &SpanSet) {}
    fn answered(&self, _: Slot, _: Sequence, _: &SpanSet, _: Option<&LastError>) {}
    fn requeued(&self, _: Slot, _: Sequence, _: &Payload) {}
    fn settled(&self, _: Slot, _: Sequence, spans: &SpanSet, outcome: Outcome) {
        assert!(matches!(outcome, Outcome::Dropped(_)));
        self.told.fetch_add(u64::from(spans.count()), Ordering::Relaxed);
    }
    fn given_up(&self, _: Slot, records: RangeInclusive<Sequence>, _: DropReason) {
        let last = (*records.end()).min(RECORDS);
        self.unread.fetch_add(2 * (last + 1 - records.start()), Ordering::Relaxed);
    }
}

impl Dropped {
    fn all(&self) -> u64 {
        assert!(self.unread.load(Ordering::Relaxed) > 0, "something was never read");
        self.told.load(Ordering::Relaxed) + self.unread.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_destination_gives_up_what_it_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::over(open(options(&dir)), Options::default());
    let observer = Arc::new(Dropped::default());
    bench.delivery.observe(observer.clone());
    let slot = bench.add("a", &refusing());
    fill(&bench, &[slot]).await;
    sleep(Duration::from_secs(1)).await;
    bench.remove("a");
    bench.quiet().await;
    assert_eq!(observer.all(), 2 * RECORDS, "each span is told of once");
    let books = bench.books(slot).await;
    assert_eq!(dropped(&books, DropReason::DestinationDeleted), (2 * RECORDS, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_log_asks_for_is_given_up_unread() {
    let dir = tempfile::tempdir().unwrap();
    // Segments so small that there are many; the log asks in segments.
    let small = LogOptions { segment_bytes: 64 << 10, ..options(&dir) };
    let bench = Bench::over(open(small), Options::default());
    let slot = bench.add("a", &refusing());
    fill(&bench, &[slot]).await;
    sleep(Duration::from_secs(1)).await;
    let upto = (RECORDS * 2 / 3..RECORDS).rev().find(|s| bench.log.end_upto(slot, *s) > RECORDS).unwrap();
    let end = bench.log.end_upto(slot, upto);
    bench.delivery.give_up(slot, upto);
    sleep(Duration::from_secs(1)).await;
    bench.delivery.shutdown(Duration::from_secs(1)).await;
    let books = bench.books(slot).await;
    let (given_up, pending) = dropped(&books, DropReason::BacklogFull);
    assert!(given_up >= end && given_up <= 2 * upto, "{given_up} of {end}");
    assert_eq!(given_up + pending, 2 * RECORDS);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_read_expires() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let bench = Bench::over(open(options(&dir)), Options { max_age: hour, ..Options::default() });
    let slot = bench.add("a", &refusing());
    fill(&bench, &[slot]).await;
    sleep(3 * hour).await;
    bench.quiet().await;
    let books = bench.books(slot).await;
    assert_eq!(dropped(&books, DropReason::Expired), (2 * RECORDS, 0));
}

#[tokio::test(start_paused = true)]
async fn a_start_reads_on_where_the_last_one_ended() {
    let dir = tempfile::tempdir().unwrap();
    let before = {
        let bench = Bench::over(open(options(&dir)), Options::default());
        let mut left = 20;
        let adapter = Scripted::new(BatchLimits { spans_max: 20, ..LIMITS }, move |_| {
            left -= 1;
            if left > 0 {
                Answer::Delivered.into()
            } else {
                retry_after(503, Duration::from_secs(3000)).into()
            }
        });
        let slot = bench.add("a", &adapter);
        fill(&bench, &[slot]).await;
        sleep(Duration::from_secs(1)).await;
        bench.delivery.shutdown(Duration::from_secs(1)).await;
        assert!(bench.books(slot).await.pending > 2000);
        adapter.taken()
    };
    let bench = Bench::over(open(options(&dir)), Options::default());
    let adapter = Scripted::willing();
    let slot = bench.add("a", &adapter);
    bench.delivery.recover();
    bench.quiet().await;
    let after = adapter.taken();
    assert!(before.keys().all(|span| !after.contains_key(span)) && after.values().all(|times| *times == 1));
    assert_eq!((before.len() + after.len()) as u64, 2 * RECORDS);
    let books = bench.books(slot).await;
    assert_eq!((books.delivered, books.pending), (2 * RECORDS, 0));
}

#[tokio::test(start_paused = true)]
async fn a_destination_reads_no_further_than_its_bound_ahead_of_what_is_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::over(open(options(&dir)), Options::default());
    // The first record is never answered, everything else is taken.
    let hour = Duration::from_secs(3600);
    let adapter =
        Scripted::new(BatchLimits { spans_max: 1000, bytes_max: 64 << 20, ..LIMITS }, move |call| match call
            .spans
            .first()
        {
            Some((1, _)) => Reply::Later(hour / 200, retry(503)),
            _ => Answer::Delivered.into(),
        });
    let well = Scripted::willing();
    let slots = [bench.add("a", &adapter), bench.add("b", &well)];
    for _ in 0..80 {
        bench.append(1000, &slots).await;
    }
    sleep(hour / 400).await;
    let ahead = adapter.taken().len();
    assert!((60_000..=66_536).contains(&ahead), "{ahead} spans were sent ahead");
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    assert_eq!(adapter.taken().len(), 80_000);
    assert!(adapter.taken().values().all(|times| *times == 1));
    assert_eq!(well.taken().len(), 80_000);
}
