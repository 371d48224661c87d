//! The books balance whatever the destinations answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;
use tracecast_log::{DeadReason, DropReason, Subscriber};
use tracecast_otlp::SpanSet;
use tracecast_sinks::{Answer, BatchLimits, ItemAnswer};

use super::harness::*;
use crate::{Options, State};

/// What a destination that misbehaves at random refused for good: never to be delivered by it.
type Poison = Arc<Mutex<BTreeSet<SpanKey>>>;

fn is_poison(key: &SpanKey) -> bool {
    // About one in forty, decided by the span alone.
    key.0.wrapping_mul(0x9e37_79b9).wrapping_add(u64::from(key.1) * 7).is_multiple_of(40)
}

/// Any answer, but never a lie: what it says was stored was stored, and it refuses the same spans always.
fn moody(seed: u64, refused: Poison) -> impl FnMut(&Call) -> Reply + Send + 'static {
    let mut rng = SmallRng::seed_from_u64(seed);
    move |call: &Call| {
        let bad = call.spans.iter().any(is_poison);
        match rng.random_range(0..20) {
            0 => retry(503).into(),
            1 => retry_after(429, Duration::from_secs(rng.random_range(1..50))).into(),
            2 => Reply::Panic,
            3 => Reply::Hang,
            4 => Answer::Auth(failure(401)).into(),
            5 => Answer::Config(failure(404)).into(),
            6 => retry(500).into(),
            7 | 8 => {
                let verdicts = call.items.iter().map(|item| match rng.random_range(0..3) {
                    _ if item.iter().any(is_poison) => {
                        refused.lock().unwrap().extend(item.iter().filter(|s| is_poison(s)));
                        ItemAnswer::Refused("bad".into())
                    }
                    0 => ItemAnswer::Retry,
                    _ => ItemAnswer::Delivered,
                });
                Answer::PerItem(verdicts.collect()).into()
            }
            _ if bad => {
                refused.lock().unwrap().extend(call.spans.iter().filter(|s| is_poison(s)));
                isolate(rng.random_bool(0.3)).into()
            }
            n => Reply::Later(Duration::from_millis(n * 10), Answer::Delivered),
        }
    }
}

async fn run(seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let bench = Bench::with(Options { max_age: Duration::from_secs(20 * 24 * 3600), ..Options::default() });
    let names = ["a", "b", "c"];
    let mut adapters = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let limits = BatchLimits {
            spans_max: rng.random_range(1..60),
            concurrency_max: rng.random_range(1..6),
            ..LIMITS
        };
        let refused = Poison::default();
        let adapter = Scripted::new(limits, moody(seed * 10 + i as u64, refused.clone()));
        bench.add(name, &adapter);
        adapters.push((adapter, refused));
    }
    let slots = names.map(|name| bench.slot(name));
    let mut selected: BTreeMap<u32, BTreeSet<SpanKey>> = BTreeMap::new();
    for _ in 0..300 {
        let spans = rng.random_range(1..9);
        let mut routes = Vec::new();
        for slot in slots {
            let positions: Vec<u32> = (0..spans).filter(|_| rng.random_bool(0.7)).collect();
            if !positions.is_empty() {
                routes.push((slot, positions));
            }
        }
        let new =
            routes.iter().map(|(slot, p)| route(*slot, SpanSet::from_positions(spans, p.iter().copied())));
        let sequence = bench.append_routed(spans, new.collect()).await;
        for (slot, positions) in routes {
            selected.entry(slot).or_default().extend(positions.into_iter().map(|p| (sequence, p)));
        }
        if rng.random_bool(0.2) {
            sleep(Duration::from_millis(rng.random_range(0..5_000))).await;
        }
        match rng.random_range(0..60) {
            0 => assert!(bench.delivery.pause(id(names[rng.random_range(0..3)]))),
            1 => assert!(bench.delivery.resume(id(names[rng.random_range(0..3)]))),
            2 => bench.delivery.give_up(slots[rng.random_range(0..3)], sequence.saturating_sub(100)),
            _ => {}
        }
    }
    for name in names {
        assert!(bench.delivery.resume(id(name)));
    }
    bench.quiet().await;

    for ((slot, name), (adapter, refused)) in slots.iter().zip(names).zip(&adapters) {
        let (taken, refused) = (adapter.taken(), refused.lock().unwrap().clone());
        let wanted = &selected[slot];
        assert!(taken.values().all(|n| *n == 1), "seed {seed}, {name}: something was delivered twice");
        assert!(taken.keys().all(|key| wanted.contains(key)), "seed {seed}, {name}: not selected");
        assert!(taken.keys().all(|key| !is_poison(key)), "seed {seed}, {name}: poison delivered");
        let letters = bench.dead_letters(*slot).await.len();
        let books = bench.books(*slot).await;
        let dead: u64 = books.dead_lettered.iter().sum();
        let given_up = books.dropped[DropReason::BacklogFull as usize];
        assert_eq!(books.dropped.iter().sum::<u64>(), given_up, "seed {seed}, {name}: {books:?}");
        assert_eq!(books.selected, wanted.len() as u64, "seed {seed}, {name}");
        assert_eq!((books.delivered, dead, books.pending), (taken.len() as u64, letters as u64, 0));
        assert_eq!(books.dead_lettered[DeadReason::Unencodable as usize], 0);
        assert_eq!(books.delivered + dead + given_up, books.selected);
        assert!(dead <= refused.len() as u64, "seed {seed}, {name}: dead letters of spans nobody refused");
        if given_up == 0 {
            let good: BTreeSet<SpanKey> = wanted.iter().copied().filter(|k| !is_poison(k)).collect();
            assert_eq!(taken.into_keys().collect::<BTreeSet<_>>(), good, "seed {seed}, {name}");
        }
        assert_ne!(bench.state(name), State::Paused);
    }
}

#[tokio::test(start_paused = true)]
async fn the_books_balance_after_any_answers() {
    for seed in 1..=8 {
        run(seed).await;
    }
}

/// On real threads and the real clock, where the paused clock cannot show races.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_is_lost_between_threads() {
    let bench = Arc::new(Bench::with(Options {
        retry_base: Duration::from_millis(1),
        retry_cap: Duration::from_millis(5),
        ..Options::default()
    }));
    let limits = BatchLimits { spans_max: 16, age_max: Duration::from_millis(1), ..LIMITS };
    let mut adapters = Vec::new();
    for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
        let mut calls = i;
        let adapter = Scripted::new(limits, move |_| {
            calls += 1;
            if calls.is_multiple_of(3) { retry(503).into() } else { Answer::Delivered.into() }
        });
        bench.add(name, &adapter);
        adapters.push(adapter);
    }
    let slots = ["a", "b", "c"].map(|name| bench.slot(name));
    let clients = (0..4).map(|_| {
        let bench = bench.clone();
        tokio::spawn(async move {
            for n in 0..250 {
                bench.append(1 + n % 3, &slots).await;
                if n % 16 == 0 {
                    // An idle moment, so that drivers end and start again.
                    sleep(Duration::from_millis(3)).await;
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    bench.quiet().await;
    for (slot, adapter) in slots.into_iter().zip(&adapters) {
        assert!(adapter.taken().values().all(|n| *n == 1));
        assert_eq!(adapter.taken().len(), 4 * (84 + 83 * 2 + 83 * 3));
        let books = bench.books(slot).await;
        assert_eq!((books.delivered, books.pending), (4 * (84 + 83 * 2 + 83 * 3), 0));
    }
}
