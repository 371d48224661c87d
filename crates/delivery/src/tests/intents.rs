//! Batches that a vendor tells by their token, over the end of a process at any moment: the same spans, the same token.
//! On the real clock, because the journal is written by a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::sleep;
use tracecast_log::{Durability, Options as LogOptions, Slot};
use tracecast_otlp::SpanSet;
use tracecast_sinks::{Answer, BatchLimits, ItemAnswer};

use super::harness::*;
use crate::Options;

const SMALL: BatchLimits =
    BatchLimits { spans_max: 7, concurrency_max: 3, age_max: Duration::from_millis(3), ..LIMITS };

/// A request that hangs is not cut.
fn patient() -> Options {
    let ms = Duration::from_millis;
    Options { attempt_timeout: ms(1 << 40), retry_base: ms(1), retry_cap: ms(5), ..Options::default() }
}

/// Until so many calls were made.
async fn called(adapter: &Scripted, calls: usize) {
    let started = std::time::Instant::now();
    while adapter.calls().len() < calls {
        sleep(Duration::from_millis(1)).await;
        assert!(started.elapsed() < Duration::from_secs(30), "{} calls", adapter.calls().len());
    }
}

/// A vendor that tells repetitions by their token and takes everything.
fn taking(limits: BatchLimits) -> Arc<Scripted> {
    Scripted::keeping(limits, |_| Answer::Delivered.into())
}

/// One process after the other, each begun in what was left by the one before.
struct Lives {
    dir: TempDir,
    ended: u32,
}

impl Lives {
    fn new() -> Lives {
        Lives { dir: tempfile::tempdir().unwrap(), ended: 0 }
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join(self.ended.to_string())
    }

    /// The next process, and its one destination.
    fn begin(&self, adapter: &Arc<Scripted>) -> (Bench, Slot) {
        let durability = Durability::Buffered;
        let log = open(LogOptions { dir: self.place(), durability, ..log_options() });
        let bench = Bench::over(log, patient());
        let slot = bench.add("a", adapter);
        (bench, slot)
    }

    /// What `kill -9` leaves is all that was written to files. The process lives on while they are copied, but no
    /// request leaves it that the copy may not know of.
    async fn kill(&mut self, bench: Bench, adapter: &Scripted) {
        adapter.cut_off();
        let (log, from) = (bench.log.clone(), self.place());
        self.ended += 1;
        let to = self.place();
        tokio::task::spawn_blocking(move || {
            log.flush().expect("the journal is written");
            copy_dir(&from, &to);
        })
        .await
        .expect("no panic");
        bench.delivery.shutdown(Duration::ZERO).await;
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            std::fs::copy(path, target).unwrap();
        }
    }
}

/// Spans by token: what a vendor that de-duplicates by it stores. A token that comes to stand for others, or a span
/// under two tokens, is a failure.
fn stored(calls: &[Call]) -> BTreeMap<SpanKey, String> {
    let mut by_token: BTreeMap<&str, &[SpanKey]> = BTreeMap::new();
    let mut spans = BTreeMap::new();
    for call in calls {
        let known = by_token.entry(&call.token).or_insert(&call.spans);
        assert_eq!(*known, call.spans.as_slice(), "{} stands for two batches", call.token);
        for span in &call.spans {
            let token = spans.entry(*span).or_insert_with(|| call.token.clone());
            assert_eq!(*token, call.token, "{span:?} was sent in two batches");
        }
    }
    spans
}

/// Several requests, each sent before the next one comes: batches that a reader of the log would not make.
async fn send_one_by_one(bench: &Bench, adapter: &Scripted, slot: Slot, spans: &[u32]) {
    for (n, spans) in spans.iter().enumerate() {
        bench.append(*spans, &[slot]).await;
        called(adapter, n + 1).await;
    }
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_sent_again_the_same() {
    let mut lives = Lives::new();
    let mut call = 0;
    // The first is answered, the others are stored and never answered.
    let adapter = Scripted::keeping(SMALL, move |_| {
        call += 1;
        if call == 1 { Answer::Delivered.into() } else { Reply::Hang }
    });
    let (first, slot) = lives.begin(&adapter);
    send_one_by_one(&first, &adapter, slot, &[2, 1, 3]).await;
    // What has no place to be sent yet: nobody is bound by it.
    first.append(4, &[slot]).await;
    lives.kill(first, &adapter).await;

    let again = taking(SMALL);
    let (second, _) = lives.begin(&again);
    assert_eq!(second.log.intents(slot).len(), 2);
    second.append(1, &[slot]).await;
    second.quiet().await;
    let (old, new) = (adapter.calls(), again.calls());
    for hung in &old[1..] {
        let same = new.iter().find(|call| call.token == hung.token).expect("the same token");
        assert_eq!(same.spans, hung.spans);
        assert_eq!(same.attempt, 1, "the vendor is told that it may know the batch");
    }
    assert!(new.iter().all(|call| call.token != old[0].token), "what has ended is not sent again");
    assert_eq!(stored(&[old, new].concat()).len(), 11);
    let books = second.books(slot).await;
    assert_eq!((books.delivered, books.pending), (11, 0));
    assert_eq!(second.log.intents(slot), Vec::<Vec<_>>::new(), "they end with their settlement");
}

#[tokio::test]
async fn what_is_left_of_a_batch_and_sent_again_is_a_batch_of_its_own() {
    let mut lives = Lives::new();
    let mut call = 0;
    // Of three one has to come again; then it is stored, and the answer does not come.
    let three = BatchLimits { spans_max: 3, age_max: Duration::from_secs(60), ..SMALL };
    let adapter = Scripted::keeping(three, move |_| {
        call += 1;
        match call {
            1 => {
                Answer::PerItem(vec![ItemAnswer::Delivered, ItemAnswer::Retry, ItemAnswer::Delivered]).into()
            }
            _ => Reply::Hang,
        }
    });
    let (first, slot) = lives.begin(&adapter);
    for _ in 0..3 {
        first.append(1, &[slot]).await;
    }
    called(&adapter, 2).await;
    lives.kill(first, &adapter).await;

    let again = taking(SMALL);
    let (second, _) = lives.begin(&again);
    // They would be company.
    second.append(2, &[slot]).await;
    second.quiet().await;
    let (old, new) = (adapter.calls(), again.calls());
    let same = new.iter().find(|call| call.token == old[1].token).expect("the same token");
    assert_eq!((&same.spans, same.spans.len()), (&old[1].spans, 1));
    assert_eq!(second.books(slot).await.delivered, 5);
}

#[tokio::test]
async fn who_names_each_span_leaves_no_notes() {
    let lives = Lives::new();
    let adapter = Scripted::new(SMALL, |_| Reply::Hang);
    let (bench, slot) = lives.begin(&adapter);
    send_one_by_one(&bench, &adapter, slot, &[2, 1]).await;
    assert_eq!(bench.log.intents(slot), Vec::<Vec<_>>::new());
    bench.delivery.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn above_todays_limits_it_is_cut_and_the_parts_are_others() {
    let mut lives = Lives::new();
    let adapter = Scripted::keeping(SMALL, |_| Reply::Hang);
    let (first, slot) = lives.begin(&adapter);
    send_one_by_one(&first, &adapter, slot, &[7, 2]).await;
    lives.kill(first, &adapter).await;

    let again = taking(BatchLimits { spans_max: 3, ..SMALL });
    let (second, _) = lives.begin(&again);
    second.quiet().await;
    let (old, new) = (adapter.calls(), again.calls());
    assert!(new.iter().all(|call| call.spans.len() <= 3));
    assert!(new.iter().all(|call| call.token != old[0].token), "parts are not the whole");
    assert!(new.iter().any(|call| call.token == old[1].token && call.spans == old[1].spans));
    assert_eq!(stored(&new).len(), 9);
    assert_eq!(second.books(slot).await.delivered, 9);
}

#[tokio::test]
async fn halves_are_noted_as_they_are_sent() {
    let mut lives = Lives::new();
    // The whole is refused, one half is stored and not answered.
    let adapter = Scripted::keeping(SMALL, |call| match call.spans.len() {
        6 => isolate(false).into(),
        _ => Reply::Hang,
    });
    let (first, slot) = lives.begin(&adapter);
    first.append(6, &[slot]).await;
    called(&adapter, 2).await;
    lives.kill(first, &adapter).await;

    let again = taking(SMALL);
    let (second, _) = lives.begin(&again);
    second.quiet().await;
    let (old, new) = (adapter.calls(), again.calls());
    assert_eq!(old[1].spans.len(), 3);
    assert_eq!(stored(&[&old[1..], &new].concat()).len(), 6);
    assert!(new.iter().any(|call| call.token == old[1].token));
    assert_eq!(second.books(slot).await.delivered, 6);
}

#[tokio::test]
async fn a_probe_takes_what_may_be_stored_as_it_is() {
    let lives = Lives::new();
    let limits = BatchLimits { spans_max: 40, ..SMALL };
    let adapter = Scripted::keeping(limits, |_| retry(504).into());
    let (bench, slot) = lives.begin(&adapter);
    bench.append(40, &[slot]).await;
    called(&adapter, 6).await;
    adapter.then(|_| Answer::Delivered.into());
    bench.quiet().await;
    let calls = adapter.calls();
    assert!(calls.iter().all(|call| call.token == calls[0].token), "{calls:#?}");
    assert_eq!(bench.books(slot).await.delivered, 40);
}

/// A life: requests of so many spans of which the destination gets some, and which calls are never answered.
type Life = (Vec<(u32, u64)>, Vec<bool>);

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let request = (1u32..12, any::<u64>());
    let life = (proptest::collection::vec(request, 1..8), proptest::collection::vec(any::<bool>(), 1..12));
    proptest::collection::vec(life, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn however_often_it_is_killed_no_span_is_sent_under_two_tokens(lives in lives()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(kill_and_start(lives));
    }
}

async fn kill_and_start(of: Vec<Life>) {
    let mut lives = Lives::new();
    let mut calls: Vec<Call> = Vec::new();
    let mut expected: BTreeSet<SpanKey> = BTreeSet::new();
    for (requests, hangs) in of {
        let mut hangs = hangs.into_iter().cycle();
        let adapter = Scripted::keeping(SMALL, move |_| match hangs.next() {
            Some(true) => Reply::Hang,
            _ => Answer::Delivered.into(),
        });
        let (bench, slot) = lives.begin(&adapter);
        for (spans, bits) in requests {
            let chosen = SpanSet::from_positions(spans, (0..spans).filter(|i| bits >> i & 1 == 1));
            let positions: Vec<u32> = chosen.iter().collect();
            let routes = if chosen.is_empty() { vec![] } else { vec![route(slot, chosen)] };
            let sequence = bench.append_routed(spans, routes).await;
            expected.extend(positions.into_iter().map(|position| (sequence, position)));
            sleep(Duration::from_millis(bits % 5)).await;
        }
        lives.kill(bench, &adapter).await;
        calls.extend(adapter.calls());
    }
    let adapter = taking(SMALL);
    let (bench, slot) = lives.begin(&adapter);
    bench.quiet().await;
    calls.extend(adapter.calls());
    let stored: BTreeSet<SpanKey> = stored(&calls).into_keys().collect();
    assert_eq!(stored, expected);
    assert_eq!(bench.books(slot).await.pending, 0);
}
