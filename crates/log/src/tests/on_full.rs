//! Who pays at the cap: one dead destination among healthy and slow ones.
use super::*;
use crate::world::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

const DEAD: Slot = 0;
/// Wants the first three records of fifty and never gets rid of them.
const STUCK: Slot = 1;
/// Wants every tenth, and is two of them behind.
const SLOW: Slot = 2;
/// Want everything.
const HEALTHY: [Slot; 2] = [3, 4];
const SLOTS: u8 = 5;
const RECORDS: u64 = 2000;
/// Three quarters of 32 segments of 16 KiB; header page and room for the index left out, 8 records fit each.
const MOST_OF_THE_CAP: u64 = 24 * 8;

#[derive(Default)]
struct Mixed {
    log: Mutex<Option<Log>>,
    dead: Mutex<VecDeque<Arc<Entry>>>,
    behind: Mutex<VecDeque<Arc<Entry>>>,
    asked: Mutex<Vec<Slot>>,
    /// Records it was told of: an append is answered before.
    told: AtomicU64,
}

impl Subscriber for Mixed {
    fn committed(&self, entry: Arc<Entry>) {
        let log = lock(&self.log);
        let Some(log) = &*log else { return };
        let has = |slot: Slot| entry.routes.iter().any(|r| r.slot == slot);
        for slot in HEALTHY {
            settle(log, &entry, slot, Outcome::Delivered);
        }
        if has(SLOW) {
            let mut behind = lock(&self.behind);
            behind.push_back(entry.clone());
            if behind.len() > 2
                && let Some(oldest) = behind.pop_front()
            {
                settle(log, &oldest, SLOW, Outcome::Delivered);
            }
        }
        if has(DEAD) {
            lock(&self.dead).push_back(entry);
        }
        self.told.fetch_add(1, Ordering::Release);
    }

    fn give_up(&self, slot: Slot, up_to: Sequence) {
        lock(&self.asked).push(slot);
        let log = lock(&self.log);
        let Some(log) = &*log else { return };
        let mut dead = lock(&self.dead);
        while slot == DEAD
            && let Some(oldest) = dead.pop_front_if(|e| e.sequence <= up_to)
        {
            settle(log, &oldest, DEAD, Outcome::Dropped(DropReason::BacklogFull));
        }
    }
}

fn run(log: &Log) -> Arc<Mixed> {
    for n in 0..SLOTS {
        assert_eq!(log.slot(key(n)), Slot::from(n));
    }
    let mixed = Arc::new(Mixed { log: Mutex::new(Some(log.clone())), ..Mixed::default() });
    log.subscribe(mixed.clone());
    for seed in 0..RECORDS {
        let all: &[u32] = &[0];
        let mut routes = vec![(DEAD, all), (HEALTHY[0], all), (HEALTHY[1], all)];
        if seed < 150 && seed % 50 == 0 {
            routes.push((STUCK, all));
        }
        if seed % 10 == 0 {
            routes.push((SLOW, all));
        }
        keep(log, record(seed, 1, 1000, &routes));
        // The keeper has its turn before the last of the room is gone, however busy the machine.
        let started = std::time::Instant::now();
        while log.has_yet_to_refuse() {
            assert!(started.elapsed() < PATIENCE, "nothing is refused");
            std::thread::yield_now();
        }
    }
    let started = std::time::Instant::now();
    while mixed.told.load(Ordering::Acquire) < RECORDS {
        assert!(started.elapsed() < PATIENCE, "told of {:?} of {RECORDS}", mixed.told);
        std::thread::yield_now();
    }
    // Whoever asks later gets nothing more.
    *lock(&mixed.log) = None;
    log.flush().unwrap();
    mixed
}

fn only_the_dead_one_lost(log: &Log) -> Books {
    let books: Vec<Books> = (0..SLOTS).map(|slot| log.books(slot.into())).collect();
    assert!(books.iter().all(Books::balanced), "{books:#?}");
    for slot in HEALTHY {
        let healthy = &books[slot as usize];
        assert_eq!((healthy.delivered, healthy.pending), (RECORDS, 0));
    }
    let (stuck, slow) = (&books[STUCK as usize], &books[SLOW as usize]);
    assert_eq!((stuck.pending, stuck.dropped), (3, [0; 6]));
    assert_eq!((slow.delivered, slow.pending, slow.dropped), (RECORDS / 10 - 2, 2, [0; 6]));
    let dead = books[DEAD as usize].clone();
    assert_eq!(dead.selected, RECORDS);
    assert_eq!(dead.dropped[DropReason::BacklogFull as usize], RECORDS - dead.pending);
    dead
}

/// What the dead one still has, oldest first.
fn sequences_of(mixed: &Mixed) -> Vec<Sequence> {
    lock(&mixed.dead).iter().map(|entry| entry.sequence).collect()
}

/// Everything but the age and the estimate of bytes.
fn figures(books: &Books) -> Books {
    Books { pending_bytes: 0, oldest_pending_unix_nano: None, ..books.clone() }
}

#[test]
fn drop_oldest_takes_from_the_laggard_alone() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 512 * KIB, ..options(dir.path()) };
    let (log, _) = Log::open(options.clone()).unwrap();
    let mixed = run(&log);
    let dead = only_the_dead_one_lost(&log);
    assert!(lock(&mixed.asked).iter().all(|slot| *slot == DEAD));
    // What it keeps is most of the cap, not a remainder.
    assert!(dead.pending >= MOST_OF_THE_CAP, "{dead:?}");
    assert!(log.bytes() <= 512 * KIB + 64 * KIB, "{}", log.bytes());
    let kept = sequences_of(&mixed);
    assert!(kept.iter().copied().eq(RECORDS - dead.pending + 1..=RECORDS), "the newest: {kept:?}");
    drop(log);
    let (log, _) = Log::open(options).unwrap();
    assert_eq!(figures(&log.books(DEAD)), figures(&dead));
}

#[test]
fn drop_newest_refuses_the_laggard_alone() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_bytes: 512 * KIB, ..options(dir.path()) };
    let (log, _) = Log::open(options.clone()).unwrap();
    log.set_on_full(OnFull::DropNewest);
    let mixed = run(&log);
    let dead = only_the_dead_one_lost(&log);
    assert_eq!(*lock(&mixed.asked), Vec::<Slot>::new());
    assert!(dead.pending >= MOST_OF_THE_CAP, "{dead:?}");
    let kept = sequences_of(&mixed);
    assert_eq!(kept.len() as u64, dead.pending);
    assert_eq!(kept[..50], (1..=50).collect::<Vec<_>>()[..], "the oldest");
    drop(log);
    // Refused in the record itself: nothing has to be journaled for the figures to be the same.
    let (log, recovered) = Log::open(options).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    assert_eq!(figures(&log.books(DEAD)), figures(&dead));
    assert_eq!(log.damage(), Damage::default());
}

#[test]
fn drop_newest_in_memory() {
    let options = Options { durability: Durability::Memory, ..options(Path::new("/nowhere")) };
    let (log, _) = Log::open(options).unwrap();
    log.set_on_full(OnFull::DropNewest);
    let mixed = run(&log);
    let dead = only_the_dead_one_lost(&log);
    assert_eq!(*lock(&mixed.asked), Vec::<Slot>::new());
    assert!(dead.pending_bytes > 128 * KIB, "{dead:?}");
    assert!(log.bytes() <= 256 * KIB);
}
