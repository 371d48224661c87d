//! A child process appends and settles under load and is killed with SIGKILL at a random moment, again and again.
use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

const DIR: &str = "TRACECAST_LOG_TEST_CHILD_DIR";
const SEED: &str = "TRACECAST_LOG_TEST_CHILD_SEED";
const KILLS: u64 = 10;
/// After so many acknowledgements.
const ACKS: std::ops::Range<u64> = 10..200;

fn crash_options(dir: &Path) -> Options {
    Options { max_bytes: 64 << 20, segment_bytes: 256 * KIB, cache_bytes: 256 * KIB, ..options(dir) }
}

/// Settles what slots 0 and 1 get; slot 2 never settles, so everything it selected must be there for ever.
struct Worker {
    log: Log,
}

impl Subscriber for Worker {
    fn committed(&self, entry: Arc<Entry>) {
        let outcome = match entry.sequence % 3 {
            0 => Outcome::Dropped(DropReason::Expired),
            1 => Outcome::DeadLettered(DeadReason::Rejected),
            _ => Outcome::Delivered,
        };
        settle(&self.log, &entry, 0, outcome);
        if entry.sequence.is_multiple_of(2) {
            settle(&self.log, &entry, 1, Outcome::Delivered);
        }
    }

    fn give_up(&self, _: Slot, _: Sequence) {}
}

fn payload_len(seed: u64) -> usize {
    (seed % 9000) as usize
}

/// The child: runs only when started by the parent below.
#[test]
fn child() {
    let (Ok(dir), Ok(seed)) = (std::env::var(DIR), std::env::var(SEED)) else { return };
    // Buffered records survive the process too.
    let durability = if seed.ends_with('3') { Durability::Buffered } else { Durability::Durable };
    let (log, _) = Log::open(Options { durability, ..crash_options(Path::new(&dir)) }).unwrap();
    for n in 0..3 {
        log.slot(key(n));
    }
    log.subscribe(Arc::new(Worker { log: log.clone() }));
    let next = Arc::new(AtomicU64::new(seed.parse::<u64>().unwrap() * 1_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for _ in 0..4 {
        let (log, next) = (log.clone(), next.clone());
        runtime.spawn(async move {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let kept: &[u32] = if seed % 2 == 0 { &[0, 2] } else { &[] };
                let routes: &[(Slot, &[u32])] = &[(0, &[0, 1, 2]), (1, &[1]), (2, kept)];
                let sequence = log.append(record(seed, 3, payload_len(seed), routes)).await.unwrap();
                println!("ack {sequence} {seed}");
            }
        });
    }
    // What is visible, as a client of the stats would see it.
    loop {
        for slot in 0..3 {
            let b = log.books(slot);
            assert!(b.balanced());
            let figures = [b.accepted, b.selected, b.delivered, b.dead_lettered[0], b.dropped[1]];
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "see {slot} {}", figures.map(|f| f.to_string()).join(" "));
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn nothing_acknowledged_or_visible_is_lost_to_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(41 + soak(1));
    let mut acked: HashMap<Sequence, u64> = HashMap::new();
    let mut seen: HashMap<Slot, [u64; 5]> = HashMap::new();
    for kill in 1..=soak(KILLS) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::child", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(SEED, kill.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        // The moment is counted in acknowledgements, so that it falls under load whatever the machine and its disk.
        let mut left = random.random_range(ACKS);
        let mut killed = false;
        for line in lines.lines() {
            let Ok(line) = line else { break };
            // A line that the kill cut short says nothing.
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok());
            match (words.first().copied(), number(1), number(2)) {
                (Some("ack"), Some(sequence), Some(seed)) if seed >= kill * 1_000_000 => {
                    assert!(acked.insert(sequence, seed).is_none(), "sequence {sequence} twice");
                    left = left.saturating_sub(1);
                }
                (Some("see"), Some(slot), Some(_)) if words.len() == 7 => {
                    let figures = [2, 3, 4, 5, 6].map(|i| number(i).unwrap_or(0));
                    let last = seen.entry(slot as Slot).or_default();
                    if !killed {
                        assert!(last.iter().zip(&figures).all(|(a, b)| a <= b), "{last:?} then {figures:?}");
                        *last = figures;
                    }
                }
                _ => {}
            }
            if left == 0 && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");

        let (log, recovered) = Log::open(crash_options(dir.path())).unwrap();
        assert_eq!(recovered.notes, Vec::<String>::new());
        assert_eq!(log.damage(), Damage::default());
        for (slot, figures) in &seen {
            let b = log.books(*slot);
            assert!(b.balanced(), "{b:?}");
            let now = [b.accepted, b.selected, b.delivered, b.dead_lettered[0], b.dropped[1]];
            assert!(figures.iter().zip(&now).all(|(a, b)| a <= b), "{figures:?} then {now:?}");
        }
        let pending: HashMap<_, _> = read_backlog(&log).into_iter().map(|e| (e.sequence, e)).collect();
        block_on(async {
            for (sequence, seed) in acked.iter().filter(|(_, seed)| **seed % 2 == 0) {
                let entry = pending.get(sequence).unwrap_or_else(|| panic!("record {sequence} is gone"));
                let route = entry.routes.iter().find(|r| r.slot == 2).unwrap();
                assert_eq!(route.spans, SpanSet::from_positions(3, [0, 2]));
                let payload = log.payload(entry).await.unwrap();
                assert_eq!(payload.bytes(), &content(*seed, payload_len(*seed)));
            }
        });
        assert!(log.books(0).selected >= 3 * acked.len() as u64);
        if kill % 2 == 0 {
            log.close();
        }
    }
    assert!(acked.len() as u64 >= soak(KILLS) * ACKS.start, "{}", acked.len());
}
