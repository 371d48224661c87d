//! Dead letters that are replayed: every span is a dead letter, or requeued, or both, whenever the process is killed.
use super::*;
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const DIR: &str = "TRACECAST_LOG_TEST_REPLAY_DIR";
const SEED: &str = "TRACECAST_LOG_TEST_REPLAY_SEED";
const KILLS: u64 = 8;

fn replay_options(dir: &Path) -> Options {
    Options { max_bytes: 64 << 20, segment_bytes: 256 * KIB, ..options(dir) }
}

/// The payload says which span it is.
fn seed_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

fn letter(entry: &Entry, payload: Bytes) -> DeadLetter {
    DeadLetter {
        id: 0,
        slot: 0,
        sequence: entry.sequence,
        received_unix_nano: entry.received_unix_nano,
        first_sent_unix_nano: None,
        at_unix_nano: crate::world::unix_nano(),
        mapping_version: 1,
        via: entry.via.clone(),
        reason: DeadReason::Rejected,
        status: Some(400),
        excerpt: String::new(),
        attempts: 1,
        spans: 1,
        payload,
    }
}

fn requeued(letter: &DeadLetter) -> NewRecord {
    let mut again = record(letter.sequence, 1, 0, &[(0, &[0])]);
    again.accepted = 0;
    again.routes[0].projection = Projection::REQUEUED;
    again.payload = Arc::new(Payload::new(letter.payload.clone(), 1));
    again
}

/// Appends one span, refuses it for good, and replays what is in the dead letters: the child of the test below.
#[test]
fn child() {
    let (Ok(dir), Ok(kill)) = (std::env::var(DIR), std::env::var(SEED)) else { return };
    let (log, _) = Log::open(replay_options(Path::new(&dir))).unwrap();
    let slot = log.slot(key(0));
    let collector = Collector::on(&log);
    let first = kill.parse::<u64>().unwrap() * 1_000_000;
    block_on(async {
        for seed in first.. {
            let mut new = record(seed, 1, 0, &[(slot, &[0])]);
            let payload =
                Bytes::from([&seed.to_le_bytes()[..], &content(seed, (seed % 3000) as usize)].concat());
            new.payload = Arc::new(Payload::new(payload.clone(), 1));
            let sequence = log.append(new).await.unwrap();
            println!("ack {seed}");
            let entries = collector.upto(sequence);
            let entry = entries.iter().find(|e| e.sequence == sequence).unwrap();
            log.dead_letters().append(letter(entry, payload)).unwrap();
            settle(&log, entry, slot, Outcome::DeadLettered(DeadReason::Rejected));
            lock(&collector.entries).clear();
            if seed % 5 == 0 {
                for letter in log.dead_letters().list(slot) {
                    log.append(requeued(&letter)).await.unwrap();
                    log.dead_letters().remove(slot, &[letter.id]).unwrap();
                }
                log.flush().unwrap();
                assert!(log.books(slot).balanced());
            }
        }
    });
}

#[test]
fn a_replayed_span_is_never_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked: HashSet<u64> = HashSet::new();
    for kill in 1..=soak(KILLS) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::requeue::child", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(SEED, kill.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        // The moment is counted in lines, so that it falls under load whatever the machine.
        let mut left = 30 + kill * 7;
        for line in lines.lines().map_while(Result::ok) {
            let seed = line.strip_prefix("ack ").and_then(|seed| seed.parse::<u64>().ok());
            acked.extend(seed.filter(|seed| *seed >= kill * 1_000_000));
            left = left.saturating_sub(1);
            if left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert_eq!(left, 0, "the child ended by itself");

        let (log, _) = Log::open(replay_options(dir.path())).unwrap();
        let pending = read_backlog(&log);
        let books = log.books(0);
        assert!(books.balanced(), "{books:?}");
        assert_eq!(log.accepted(), books.selected, "replays are not accepted again");
        let letters = log.dead_letters().list(0);
        let mut held: HashSet<u64> = letters.iter().map(|l| seed_of(&l.payload)).collect();
        let mut again = 0;
        block_on(async {
            for entry in &pending {
                again += u64::from(entry.routes[0].projection.is_requeued());
                held.insert(seed_of(log.payload(entry).await.unwrap().bytes()));
            }
        });
        assert_eq!(again, books.requeued, "nobody settles what is requeued here");
        assert_eq!(books.pending, pending.len() as u64);
        let lost: Vec<_> = acked.difference(&held).collect();
        assert!(lost.is_empty(), "{lost:?}");
        // A letter was removed only once its span was requeued.
        assert!(letters.len() as u64 + books.requeued >= books.dead_lettered[0]);
        if kill % 2 == 0 {
            log.close();
        }
    }
}
