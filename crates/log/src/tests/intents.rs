//! Batches that are about to be sent, over crashes and checkpoints.
use super::*;

fn ranges(ranges: &[(u64, u64)]) -> Vec<std::ops::Range<u64>> {
    ranges.iter().map(|(start, end)| *start..*end).collect()
}

fn intend(log: &Log, slot: Slot, what: &[(u64, u64)]) {
    block_on(log.intend(slot, ranges(what))).unwrap();
}

#[test]
fn what_may_have_been_sent_is_known_until_some_of_it_has_ended() {
    for close in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(options(dir.path())).unwrap();
        let (a, b) = (log.slot(key(1)), log.slot(key(2)));
        for seed in 0..20 {
            block_on(log.append(record(seed, 1, 100, &[(a, &[0]), (b, &[0])]))).unwrap();
        }
        intend(&log, a, &[(0, 3), (5, 8)]);
        intend(&log, a, &[(8, 10)]);
        intend(&log, a, &[(10, 14)]);
        intend(&log, b, &[(0, 20)]);
        // Halves, and a batch of which a span has ended.
        intend(&log, a, &[(10, 12)]);
        intend(&log, a, &[(12, 14)]);
        log.settle_range(a, 9..10, Outcome::Delivered);
        log.flush().unwrap();
        let expected = vec![ranges(&[(0, 3), (5, 8)]), ranges(&[(10, 12)]), ranges(&[(12, 14)])];
        assert_eq!(log.intents(a), expected);
        if close {
            log.close();
        }
        drop(log);
        // Twice, so that they come from a journal and from a checkpoint.
        for _ in 0..2 {
            let (log, recovered) = Log::open(options(dir.path())).unwrap();
            assert_eq!(recovered.notes, Vec::<String>::new());
            assert_eq!((log.intents(a), log.intents(b)), (expected.clone(), vec![ranges(&[(0, 20)])]));
        }
    }
}

#[test]
fn nothing_is_planned_of_what_the_log_does_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(options(dir.path())).unwrap();
    let a = log.slot(key(1));
    block_on(log.append(record(1, 2, 100, &[(a, &[0, 1])]))).unwrap();
    intend(&log, a, &[(0, 2), (2, 7)]);
    intend(&log, 77, &[(0, 1)]);
    assert_eq!((log.intents(a), log.intents(77)), (vec![], vec![]));
    log.close();
    assert!(matches!(block_on(log.intend(a, ranges(&[(0, 2)]))), Err(LogError::Closed)));
}
