//! The store of dead letters: restart, caps, damage.
use bytes::Bytes;

use super::letter::FILE_HEADER;
use super::store::path_of;
use super::*;
use crate::types::DeadReason;

fn letter(slot: Slot, payload: usize) -> DeadLetter {
    DeadLetter {
        id: 0,
        slot,
        sequence: 12,
        received_unix_nano: 34,
        first_sent_unix_nano: Some(56),
        at_unix_nano: unix_nano(),
        mapping_version: 7,
        via: Bytes::new(),
        reason: DeadReason::TooLarge,
        status: Some(413),
        excerpt: "too large".to_owned(),
        attempts: 3,
        spans: 2,
        payload: Bytes::from(vec![slot as u8; payload]),
    }
}

fn small() -> Limits {
    Limits {
        own_bytes: 1 << 20,
        own_letters: 1000,
        cap_bytes: 80_000,
        ring_bytes: 10_000,
        file_bytes: 8_000,
        age: Duration::from_secs(3600),
    }
}

#[test]
fn letters_come_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DeadLetters::open(Disk::default(), dir.path().join("dead-letters"), small()).unwrap();
    let store = open();
    let first = store.append(letter(1, 100)).unwrap();
    let via = Bytes::from_static(b"one, two");
    let second = store
        .append(DeadLetter { status: None, excerpt: String::new(), via: via.clone(), ..letter(2, 0) })
        .unwrap();
    let third = store.append(letter(1, 200)).unwrap();
    assert!(first < second && second < third);
    let listed = store.list(1);
    assert_eq!(listed.iter().map(|l| l.id).collect::<Vec<_>>(), [first, third]);
    let store = open();
    assert_eq!((store.count(1), store.count(2), store.count(3)), (2, 1, 0));
    assert_eq!(store.list(1), listed);
    let forwarded = store.list(2).remove(0);
    assert_eq!((forwarded.status, forwarded.payload.len(), forwarded.via), (None, 0, via));
    assert!(store.append(letter(1, 1)).unwrap() > third);
    assert_eq!(store.count(1), 3);
}

#[test]
fn the_oldest_go_at_the_cap() {
    let dir = tempfile::tempdir().unwrap();
    let store = DeadLetters::open(Disk::default(), dir.path().to_path_buf(), small()).unwrap();
    let ids: Vec<u64> = (0..100).map(|_| store.append(letter(1, 1000)).unwrap()).collect();
    assert!(store.bytes() <= 80_000, "{}", store.bytes());
    let left: Vec<u64> = store.list(1).iter().map(|l| l.id).collect();
    assert_eq!(left, ids[ids.len() - left.len()..]);
    assert!(left.len() >= 25);
    assert_eq!(store.dropped() as usize, 100 - left.len());
}

#[test]
fn old_letters_are_not_shown_and_go_with_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = DeadLetters::open(Disk::default(), dir.path().to_path_buf(), small()).unwrap();
    let old = unix_nano() - 2 * 3600 * 1_000_000_000;
    for _ in 0..10 {
        store.append(DeadLetter { at_unix_nano: old, ..letter(1, 1000) }).unwrap();
    }
    assert_eq!((store.count(1), store.list(1).len()), (0, 0));
    store.append(letter(1, 10)).unwrap();
    assert_eq!(store.count(1), 1);
    assert!(store.bytes() < 5_000, "{}", store.bytes());
}

#[test]
fn damage_costs_the_letters_it_hits() {
    let dir = tempfile::tempdir().unwrap();
    let store = DeadLetters::open(Disk::default(), dir.path().to_path_buf(), small()).unwrap();
    for _ in 0..5 {
        store.append(letter(1, 500)).unwrap();
    }
    let path = path_of(dir.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let each = (whole.len() - FILE_HEADER) / 5;
    let reopened = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        DeadLetters::open(Disk::default(), dir.path().to_path_buf(), small()).unwrap()
    };
    // A header, a body, a torn end.
    let mut header = whole.clone();
    header[FILE_HEADER + 2 * each + 20] ^= 1;
    assert_eq!((reopened(&header).count(1), reopened(&header).list(1).len()), (4, 4));
    let mut body = whole.clone();
    body[FILE_HEADER + 2 * each + 200] ^= 1;
    assert_eq!(reopened(&body).list(1).len(), 4);
    for cut in [0, 5, FILE_HEADER, FILE_HEADER + 10, FILE_HEADER + 4 * each + 100] {
        let whole_letters = cut.saturating_sub(FILE_HEADER) / each;
        assert_eq!(reopened(&whole[..cut]).count(1) as usize, whole_letters, "{cut}");
    }
    for at in (0..whole.len()).step_by(13).chain(0..FILE_HEADER) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x80;
        assert!(reopened(&flipped).list(1).len() >= 4, "{at}");
    }
}

#[test]
fn a_failed_sync_is_an_error_and_the_next_letter_begins_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = DeadLetters::open(disk.clone(), dir.path().to_path_buf(), small()).unwrap();
    store.append(letter(1, 10)).unwrap();
    disk.faults.fail_syncs(".dead", 1);
    assert!(matches!(store.append(letter(1, 10)), Err(LogError::Io { .. })));
    store.append(letter(1, 10)).unwrap();
    assert!(path_of(dir.path(), 2).exists());
}

#[test]
fn concurrent_letters_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { cap_bytes: 1 << 20, ..small() };
    let store = DeadLetters::open(Disk::default(), dir.path().to_path_buf(), limits).unwrap();
    std::thread::scope(|scope| {
        for slot in 0..4 {
            let store = &store;
            scope.spawn(move || (0..20).for_each(|_| assert!(store.append(letter(slot, 300)).is_ok())));
        }
    });
    for slot in 0..4 {
        let listed = store.list(slot);
        assert_eq!(listed.len(), 20);
        assert!(listed.windows(2).all(|w| w[0].id < w[1].id));
        assert!(listed.iter().all(|l| l.payload.iter().all(|b| u32::from(*b) == slot)));
    }
}

#[test]
fn the_ring_is_bounded() {
    let store = DeadLetters::in_memory(small());
    let ids: Vec<u64> = (0..50).map(|_| store.append(letter(1, 1000)).unwrap()).collect();
    assert!(store.bytes() <= 10_000);
    let left = store.list(1);
    assert_eq!(left.last().map(|l| l.id), ids.last().copied());
    assert_eq!((store.count(1) as usize, store.dropped() as usize), (left.len(), 50 - left.len()));
    assert!(left.len() >= 8);
}

#[test]
fn removed_letters_stay_removed_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { cap_bytes: 1 << 20, ..small() };
    let open = || DeadLetters::open(Disk::default(), dir.path().to_path_buf(), limits).unwrap();
    let store = open();
    let ids: Vec<u64> = (0..30).map(|i| store.append(letter(1 + i % 2, 1000)).unwrap()).collect();
    let own: Vec<u64> = ids.iter().copied().step_by(2).collect();
    // Ids of another destination, unknown ones and repeats change nothing.
    assert_eq!(store.remove(1, &[own[3], ids[1], u64::MAX, own[3]]).unwrap(), 1);
    assert_eq!(store.remove(1, &own[8..]).unwrap(), own.len() as u64 - 8);
    let left: Vec<u64> = own[..8].iter().copied().filter(|id| *id != own[3]).collect();
    let shown = |store: &DeadLetters, slot| store.list(slot).iter().map(|l| l.id).collect::<Vec<_>>();
    assert_eq!(shown(&store, 1), left);
    drop(store);
    let store = open();
    assert_eq!((shown(&store, 1), store.count(2)), (left.clone(), 15));
    assert_eq!(store.get(1, own[3]), None);
    assert_eq!(store.get(2, left[0]), None);
    assert_eq!(store.get(1, left[0]).unwrap().payload.len(), 1000);
    // What is emptied gives its bytes back, as far as nothing older is left.
    let all: Vec<u64> = shown(&store, 2);
    store.remove(1, &left).unwrap();
    store.remove(2, &all).unwrap();
    assert_eq!((store.count(1), store.count(2)), (0, 0));
    assert!(store.bytes() < 8_000, "{}", store.bytes());
    let next = store.append(letter(1, 1)).unwrap();
    assert!(next > ids[29]);
    assert_eq!(shown(&open(), 1), [next]);
}

#[test]
fn a_filter_is_all_of_its_parts() {
    let files = tempfile::tempdir().unwrap();
    let limits = Limits { cap_bytes: 1 << 20, ring_bytes: 1 << 20, ..small() };
    let on_disk = DeadLetters::open(Disk::default(), files.path().to_path_buf(), limits).unwrap();
    for store in [on_disk, DeadLetters::in_memory(limits)] {
        let now = unix_nano();
        let ids: Vec<u64> = (0..6u64)
            .map(|i| {
                let reason = DeadReason::ALL[i as usize % 2];
                store.append(DeadLetter { at_unix_nano: now + i, reason, ..letter(4, 10) }).unwrap()
            })
            .collect();
        let found = |filter: LetterFilter| store.find(4, &filter).iter().map(|h| h.id).collect::<Vec<_>>();
        let any = LetterFilter::default();
        assert_eq!(found(any), ids);
        assert_eq!(found(LetterFilter { id: Some(ids[2]), ..any }), [ids[2]]);
        assert_eq!(
            found(LetterFilter { reason: Some(DeadReason::TooLarge), ..any }),
            [ids[1], ids[3], ids[5]]
        );
        let window = LetterFilter { from_unix_nano: Some(now + 1), to_unix_nano: Some(now + 4), ..any };
        assert_eq!(found(window), ids[1..4]);
        assert_eq!(found(LetterFilter { reason: Some(DeadReason::Rejected), ..window }), [ids[2]]);
        assert_eq!(store.remove(4, &[ids[0]]).unwrap(), 1);
        assert_eq!(found(any), ids[1..]);
    }
}

#[test]
fn a_destination_at_its_own_cap_loses_its_own_oldest() {
    let dir = tempfile::tempdir().unwrap();
    for limits in [Limits { own_bytes: 20_000, ..small() }, Limits { own_letters: 18, ..small() }] {
        let dir = dir.path().join(format!("{}", limits.own_letters));
        let open = || DeadLetters::open(Disk::default(), dir.clone(), limits).unwrap();
        let store = open();
        let other = store.append(letter(2, 1000)).unwrap();
        let ids: Vec<u64> = (0..200).map(|_| store.append(letter(1, 1000)).unwrap()).collect();
        let left: Vec<u64> = store.list(1).iter().map(|l| l.id).collect();
        assert!(left.len() <= 18 && left.len() >= 14, "{}", left.len());
        assert_eq!(left, ids[ids.len() - left.len()..]);
        assert_eq!(store.dropped() as usize, 200 - left.len());
        // Two hundred kilobytes have come by since, and what is written is within the cap.
        assert_eq!(
            store.list(2).iter().map(|l| (l.id, l.payload.len())).collect::<Vec<_>>(),
            [(other, 1000)]
        );
        assert!(store.bytes() <= 80_000, "{}", store.bytes());
        let store = open();
        assert_eq!(store.list(1).iter().map(|l| l.id).collect::<Vec<_>>(), left);
        assert_eq!(store.get(2, other).unwrap(), DeadLetter { id: other, ..store.list(2)[0].clone() });
        assert!(store.append(letter(1, 1)).unwrap() > ids[199]);
    }
}

#[test]
fn at_the_cap_of_all_the_one_with_the_most_pays() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { ring_bytes: 40_000, ..small() };
    let stores = [
        DeadLetters::open(Disk::default(), dir.path().to_path_buf(), limits).unwrap(),
        DeadLetters::in_memory(limits),
    ];
    for store in stores {
        let few: Vec<u64> = (2..7).map(|slot| store.append(letter(slot, 1000)).unwrap()).collect();
        for _ in 0..300 {
            store.append(letter(1, 1000)).unwrap();
        }
        for (slot, id) in (2..7).zip(few) {
            assert_eq!(store.list(slot).iter().map(|l| l.id).collect::<Vec<_>>(), [id]);
        }
        assert!(store.count(1) >= 25, "{}", store.count(1));
        assert_eq!(store.dropped(), 300 - store.count(1));
    }
}

#[test]
fn a_process_that_ends_while_letters_move_leaves_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let limits = Limits { own_letters: 20, ..small() };
    let store = DeadLetters::open(disk.clone(), dir.path().to_path_buf(), limits).unwrap();
    let other = store.append(letter(2, 1000)).unwrap();
    let first = std::fs::read(path_of(dir.path(), 1)).unwrap();
    for _ in 0..100 {
        store.append(letter(1, 1000)).unwrap();
    }
    assert!(!path_of(dir.path(), 1).exists(), "the oldest file is gone");
    // As if it had not gone yet.
    std::fs::write(path_of(dir.path(), 1), first).unwrap();
    let store = DeadLetters::open(disk, dir.path().to_path_buf(), limits).unwrap();
    assert_eq!(store.list(2).iter().map(|l| l.id).collect::<Vec<_>>(), [other]);
    assert_eq!(store.remove(2, &[other]).unwrap(), 1);
    assert_eq!(store.count(2), 0);
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DeadLetters::open(Disk::default(), dir.path().to_path_buf(), small());
    open().unwrap().append(letter(1, 100)).unwrap();
    let path = path_of(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..FILE_HEADER - 4]);
    bytes[FILE_HEADER - 4..FILE_HEADER].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let refused = open().unwrap_err().to_string();
    assert!(refused.contains("0000000001.dead") && refused.contains("version 9"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
