//! A power cut on a simulated disk: what was not synced is there or not, sector by sector.
use super::*;
use crate::dead_letters::Limits;
use crate::disk::Disk;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::HashMap;

const SECTOR: usize = 512;

/// What the disk may hold after the cut: each sector as last synced, or as last written.
pub(super) fn image(disk: &Disk, from: &Path, to: &Path, random: &mut StdRng) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            image(disk, &path, &target, random);
            continue;
        }
        let written = std::fs::read(&path).unwrap();
        let synced = lock(&disk.faults.synced).as_ref().unwrap().get(&path).cloned().unwrap_or_default();
        let len = if random.random_bool(0.5) { written.len() } else { synced.len() };
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = bytes.len();
            let source = if random.random_bool(0.5) { &written } else { &synced };
            let end = (at + SECTOR).min(len);
            let have = source.get(at..end.min(source.len())).unwrap_or_default();
            bytes.extend_from_slice(have);
            bytes.resize(end, 0);
        }
        std::fs::write(target, bytes).unwrap();
    }
}

fn run(seed: u64, durability: Durability) {
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    *lock(&disk.faults.synced) = Some(HashMap::new());
    let options = Options { durability, max_bytes: 1024 * KIB, ..options(dir.path()) };
    let (log, _) = Log::open_on(disk.clone(), options.clone(), Limits::default()).unwrap();
    let (a, b) = (log.slot(key(1)), log.slot(key(2)));
    let collector = Collector::on(&log);
    let mut kept: HashMap<Sequence, (u64, usize)> = HashMap::new();
    let rounds = random.random_range(1..60);
    for seed in 0..rounds {
        let len = random.random_range(0..5000);
        // Slot b never settles.
        let keep = random.random_bool(0.3);
        let routes: &[(Slot, &[u32])] = if keep { &[(a, &[0, 1]), (b, &[1])] } else { &[(a, &[0, 1])] };
        let sequence = block_on(log.append(record(seed, 2, len, routes))).unwrap();
        if keep {
            kept.insert(sequence, (seed, len));
        }
        if random.random_bool(0.5) {
            for entry in std::mem::take(&mut *lock(&collector.entries)) {
                settle(&log, &entry, a, Outcome::Delivered);
            }
        }
    }
    // The moment of the cut: nothing is written after the image is taken but what the threads had under way.
    let before = log.books(a);
    drop(log);
    let cut = tempfile::tempdir().unwrap();
    image(&disk, dir.path(), cut.path(), &mut random);
    let (log, recovered) = Log::open(Options { dir: cut.path().to_path_buf(), ..options }).unwrap();
    let books = log.books(a);
    assert!(books.balanced() && log.books(b).balanced(), "seed {seed}");
    if durability == Durability::Durable {
        assert_eq!(recovered.notes, Vec::<String>::new(), "seed {seed}");
        assert_eq!(log.damage(), Damage::default());
        assert_eq!((books.selected, log.accepted()), (rounds * 2, rounds * 2), "seed {seed}");
        assert_eq!((before.selected, books.dropped), (books.selected, [0; 6]));
    }
    assert_eq!((log.slot(key(1)), log.slot(key(2))), (a, b));
    let pending: HashMap<_, _> = read_backlog(&log).into_iter().map(|e| (e.sequence, e)).collect();
    block_on(async {
        for (sequence, (content_seed, len)) in &kept {
            let Some(entry) = pending.get(sequence) else {
                assert_ne!(durability, Durability::Durable, "seed {seed}: record {sequence} is gone");
                continue;
            };
            let payload = log.payload(entry).await.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(payload.bytes(), &content(*content_seed, *len));
        }
    });
    // And it goes on: numbers are not used twice.
    let next = block_on(log.append(record(999, 1, 10, &[(a, &[0])]))).unwrap();
    assert!(pending.keys().all(|sequence| *sequence < next));
    assert!(log.books(a).balanced());
}

#[test]
fn durable_records_survive() {
    (0..soak(16)).for_each(|seed| run(seed, Durability::Durable));
}

#[test]
fn buffered_logs_balance() {
    (100_000..100_000 + soak(10)).for_each(|seed| run(seed, Durability::Buffered));
}
