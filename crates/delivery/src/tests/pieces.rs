//! Tokens, halving and the queue, over entries as the log makes them.

use std::sync::Arc;

use tokio::time::{Duration, Instant};
use tracecast_log::{Durability, Entry, Options as LogOptions};
use tracecast_otlp::SpanSet;
use uuid::Uuid;

use super::harness::*;
use crate::job::{Part, Piece, halve};
use crate::queue::{Queue, Ref};

/// Entries of these span sets for one slot.
async fn entries(sets: Vec<SpanSet>) -> Vec<Arc<Entry>> {
    let log = open(LogOptions { durability: Durability::Memory, ..log_options() });
    let keep = Arc::new(Keep::default());
    log.subscribe(keep.clone());
    let slot = log.slot([1; 16]);
    for set in &sets {
        let spans = set.len();
        log.append(record(payload(spans, |_| 100), spans, vec![route(slot, set.clone())])).await.unwrap();
    }
    tokio::task::spawn_blocking(move || log.close()).await.unwrap();
    let kept = keep.0.lock().unwrap().clone();
    assert_eq!(kept.len(), sets.len());
    kept
}

fn queue(entries: &[Arc<Entry>], now: Instant) -> Queue {
    let mut queue = Queue::default();
    entries.iter().for_each(|entry| queue.push(Ref::new(entry, 0, now + Duration::from_secs(60)).unwrap()));
    queue
}

fn keys(pieces: &[Piece]) -> Vec<SpanKey> {
    pieces.iter().flat_map(|p| p.spans.iter().map(|i| (p.entry.sequence, i)).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn a_queue_gives_out_every_span_once_and_in_order() {
    let now = Instant::now();
    let sets =
        vec![SpanSet::all(5), SpanSet::from_positions(9, [0, 2, 3, 8]), SpanSet::all(1), SpanSet::all(30)];
    let entries = entries(sets).await;
    let all = keys(&queue(&entries, now).drain(usize::MAX));
    assert_eq!(all.len(), 40);
    for spans_max in [1, 2, 3, 4, 7, 40, 100] {
        for bytes_max in [1, 500, 1 << 30] {
            let mut queue = queue(&entries, now);
            let mut given = Vec::new();
            while !queue.is_empty() {
                let batch = queue.take(spans_max, bytes_max);
                let spans = batch.iter().map(Piece::count).sum::<u32>();
                assert!(spans >= 1 && spans <= spans_max);
                let bytes = batch.iter().map(|p| p.bytes).sum::<u64>();
                assert!(bytes <= bytes_max || spans == 1, "{bytes} > {bytes_max}");
                given.extend(keys(&batch));
            }
            assert_eq!(given, all, "{spans_max} spans, {bytes_max} bytes");
        }
    }
}

#[tokio::test]
async fn a_queue_that_was_given_up_or_expired_keeps_the_rest() {
    let now = Instant::now();
    let entries = entries((0..4).map(|_| SpanSet::all(2)).collect()).await;
    let mut queue = queue(&entries, now);
    queue.take(1, u64::MAX);
    let gone = queue.give_up(entries[1].sequence, 100);
    assert_eq!(keys(&gone), [(entries[0].sequence, 1), (entries[1].sequence, 0), (entries[1].sequence, 1)]);
    assert!(queue.expire(now, 100).is_empty());
    assert!(queue.fills(4, u64::MAX) && !queue.fills(5, u64::MAX));
    assert_eq!(queue.expire(now + Duration::from_secs(60), 1).len(), 1);
    assert_eq!(queue.expire(now + Duration::from_secs(60), 100).len(), 1);
    assert!(queue.is_empty() && !queue.fills(1, 1));
}

#[tokio::test]
async fn halves_are_a_partition_and_neither_is_empty() {
    let now = Instant::now();
    let entries =
        entries(vec![SpanSet::all(3), SpanSet::from_positions(8, [1, 4, 6, 7]), SpanSet::all(1)]).await;
    let pieces = queue(&entries, now).drain(usize::MAX);
    type Weight = fn(usize, usize) -> u64;
    let weights: [Weight; 5] = [
        |_, _| 1,
        |_, _| 0,
        |i, _| if i == 0 { 1 << 40 } else { 1 },
        |i, _| if i == 2 { 1 << 40 } else { 1 },
        |_, _| u64::MAX,
    ];
    for weight in weights {
        let (first, second) = halve(&pieces, weight).unwrap();
        assert!(!first.is_empty() && !second.is_empty());
        assert!(first.iter().chain(&second).all(|p| p.count() > 0));
        assert_eq!([keys(&first), keys(&second)].concat(), keys(&pieces));
    }
    let (first, second) = halve(&pieces, |_, _| 1).unwrap();
    assert_eq!((keys(&first).len(), keys(&second).len()), (4, 4));
    assert!(halve(&pieces[2..], |_, _| 1).is_none());
}

/// A replica's destination has the same id, and both logs begin at 1.
#[tokio::test]
async fn the_same_figures_in_another_log_are_another_token() {
    let (now, destination) = (Instant::now(), Uuid::from_u128(5));
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let entries = entries(vec![SpanSet::all(2), SpanSet::all(1)]).await;
        assert_eq!(entries.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2]);
        tokens.push(Part::new(queue(&entries, now).drain(usize::MAX), now).token(destination));
    }
    let figures = |token: &str| token.rsplit_once('-').map(|(figures, _)| figures.to_owned());
    assert_eq!(figures(&tokens[0]), figures(&tokens[1]));
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn a_token_names_the_composition_and_nothing_else() {
    let now = Instant::now();
    let entries = entries(vec![SpanSet::from_positions(9, [2, 5, 6]), SpanSet::all(4)]).await;
    let pieces = queue(&entries, now).drain(usize::MAX);
    let destination = Uuid::from_u128(7);
    let token = |pieces: Vec<Piece>| Part::new(pieces, now).token(destination);
    let whole = token(pieces.clone());
    assert_eq!(whole, token(pieces.clone()));
    let first = entries[0].routes[0].ordinal;
    assert!(whole.starts_with(&format!("{destination}-{first}-{}-7-", first + 6)), "{whole}");
    // Same first, same last, same number of spans: still another token.
    let (head, tail) = pieces[1].split_at(1);
    let (middle, last) = tail.split_at(2);
    let (third, fourth) = middle.split_at(1);
    let one = token(vec![head.clone(), third, last.clone()]);
    let other = token(vec![head, fourth, last]);
    assert_eq!(one.rsplit_once('-').unwrap().0, other.rsplit_once('-').unwrap().0);
    assert_ne!(one, other);
}

#[test]
fn what_the_log_carries_over_without_content_holds_none() {
    let whole = payload(5, |_| 20);
    let part = crate::without_content(&whole, &SpanSet::from_positions(5, [1, 4])).expect("good bytes");
    let (traces, text) = (part.traces().unwrap(), String::from_utf8_lossy(part.bytes()));
    let ids: Vec<u64> = (0..traces.len()).map(|i| u64::from_be_bytes(traces.span(i).span_id())).collect();
    assert_eq!(ids, [2, 5]);
    assert!(String::from_utf8_lossy(whole.bytes()).contains(PROMPT) && !text.contains(PROMPT), "{text}");
    let damaged = tracecast_otlp::Payload::new(vec![0xff; 9].into(), 5);
    assert!(crate::without_content(&damaged, &SpanSet::all(5)).is_none());
}
