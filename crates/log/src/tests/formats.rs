//! Codecs: round trips, truncations, flipped bits.
use super::*;
use crate::checkpoint::{Checkpoint, Wanted};
use crate::disk::Disk;
use crate::format::*;
use crate::index::{IndexBuilder, SealedIndex};
use crate::journal::{self, Journal, JournalEntry, Settled};
use crate::walk::{Step, Walk};
use proptest::prelude::*;

const LIFE: Life = Life { number: 12, epoch: 3, nonce: 0xDEAD_BEEF };

fn header() -> SegmentHeader {
    SegmentHeader {
        life: LIFE,
        is_carry: false,
        first_sequence: 400,
        bytes: 65536,
        created_unix_nano: 9,
        ends: vec![(10, 5000), (11, 8192)],
    }
}

fn seal() -> Seal {
    Seal {
        is_narrowed: false,
        life: LIFE,
        carry: None,
        first_sequence: 400,
        last_sequence: 420,
        records: 21,
        end: 60000,
        index_len: 77,
    }
}

#[test]
fn a_header_page_round_trips_and_shows_damage() {
    let mut page = header().encode();
    assert_eq!(page.len() as u64, HEADER_PAGE);
    assert_eq!(Page::decode(&page), Page::Known { header: Some(header()), seal: None });
    put(&mut page, SEAL_AT, &seal().encode());
    assert_eq!(Page::decode(&page), Page::Known { header: Some(header()), seal: Some(seal()) });
    for is_narrowed in [false, true] {
        let carry = Seal { carry: Some(19), is_narrowed, ..seal() };
        let mut page = page.clone();
        put(&mut page, SEAL_AT, &carry.encode());
        assert_eq!(Page::decode(&page), Page::Known { header: Some(header()), seal: Some(carry) });
    }
    // One of the two is enough; a seal of another life says nothing.
    let mut without = page.clone();
    without[20] ^= 1;
    assert_eq!(Page::decode(&without), Page::Known { header: None, seal: Some(seal()) });
    let other = SegmentHeader { life: Life { number: 13, ..LIFE }, ..header() };
    let mut recycled = other.encode();
    put(&mut recycled, SEAL_AT, &seal().encode());
    assert_eq!(Page::decode(&recycled), Page::Known { header: Some(other), seal: None });
    assert_eq!(Page::decode(&[0; 4096]), Page::Fresh);
    assert_eq!(Page::decode(&[1; 4096]), Page::Unknown);
    for n in 0..page.len() {
        let _ = Page::decode(&page[..n]);
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn meta_strategy() -> impl Strategy<Value = (Meta, u32)> {
    let route =
        (0..SLOT_MAX, 0u8..4, 0u64..1 << 40, any::<u32>(), proptest::collection::vec(any::<bool>(), 1..80));
    (
        1u32..80,
        proptest::collection::vec(route, 0..6),
        proptest::collection::vec((0..SLOT_MAX, 0u8..6, any::<u32>()), 0..5),
        any::<u64>(),
        (0usize..40, 0usize..60)
            .prop_map(|(via, sender)| Origin { via: content(3, via), sender: content(4, sender) }),
    )
        .prop_map(|(spans, routes, skips, generation, origin)| {
            let routes = routes.into_iter().map(|(slot, projection, ordinal, bytes, chosen)| {
                let positions = (0..spans).filter(|i| chosen.get(*i as usize).copied().unwrap_or(*i == 0));
                let mut set = SpanSet::from_positions(spans, positions);
                set.insert(0);
                StoredRoute { slot, projection: Projection(projection), ordinal, bytes, spans: set }
            });
            let skips = skips.into_iter().map(|(slot, reason, spans)| Skip {
                slot,
                reason: SkipReason::from_code(reason).unwrap(),
                spans,
            });
            let kept = (generation % 3 == 0).then(|| {
                SpanSet::from_positions(spans, (0..spans).filter(|i| (generation >> (i % 60)) & 1 == 1))
            });
            let meta = Meta {
                workspace: [9; 16],
                config_generation: generation,
                routes: routes.collect(),
                skips: skips.collect(),
                trace_keys: Bytes::from_static(b"keys"),
                origin,
                kept,
            };
            (meta, spans)
        })
}

fn record_header(sequence: u64, meta_len: usize, payload: &[u8], spans: u32) -> RecordHeader {
    RecordHeader {
        payload_crc: crc32c::crc32c(payload),
        payload_len: payload.len() as u32,
        meta_len: meta_len as u32,
        kind: Kind::Record,
        flags: 0,
        sequence,
        received_unix_nano: 77,
        life: LIFE,
        answered: 4096,
        accepted: 5,
        spans,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn records_round_trip((meta, spans) in meta_strategy()) {
        let mut bytes = vec![0; RECORD_HEADER];
        meta.encode(&mut bytes);
        let header = record_header(4, bytes.len() - RECORD_HEADER, b"payload", spans);
        header.encode_before_meta(&mut bytes, 0);
        let (read, crc) = RecordHeader::decode(&bytes).unwrap();
        prop_assert_eq!(read, header);
        prop_assert!(is_intact(&bytes, read.meta_len, crc));
        prop_assert_eq!(Meta::decode(&bytes[RECORD_HEADER..], spans), Some(meta.clone()));
        for n in 0..bytes.len() - RECORD_HEADER {
            prop_assert_ne!(Meta::decode(&bytes[RECORD_HEADER..RECORD_HEADER + n], spans), Some(meta.clone()));
        }
        // Every single flipped bit outside the magic and the checksum itself is seen.
        for at in (8..bytes.len()).step_by(7) {
            bytes[at] ^= 0x20;
            let intact = RecordHeader::decode(&bytes).is_some_and(|(h, crc)| is_intact(&bytes, h.meta_len, crc));
            prop_assert!(!intact, "byte {}", at);
            bytes[at] ^= 0x20;
        }
    }

    #[test]
    fn the_index_round_trips_within_its_bound(metas in proptest::collection::vec(meta_strategy(), 0..12)) {
        let mut builder = IndexBuilder::default();
        let mut bound = builder.most_with(0, 0);
        let mut expected = Vec::new();
        let mut offset = HEADER_PAGE;
        for (sequence, (meta, spans)) in (1..).zip(&metas) {
            let mut bytes = Vec::new();
            let routing = meta.encode(&mut bytes);
            bound = bound.max(builder.most_with(routing + meta.origin.via.len(), meta.routes.len()));
            let header = record_header(sequence, bytes.len(), b"some payload", *spans);
            builder.push(offset, &header, &bytes[..routing], meta);
            if !meta.routes.is_empty() {
                expected.push((offset, sequence, meta.routes.clone(), meta.origin.via.clone()));
            }
            offset += header.total_len();
        }
        let bytes = builder.encode();
        prop_assert!(bytes.len() as u64 <= bound, "{} > {}", bytes.len(), bound);
        let index = SealedIndex::decode(bytes.clone()).unwrap();
        let slots: std::collections::BTreeSet<_> = expected.iter().flat_map(|(_, _, routes, _)| routes).map(|r| r.slot).collect();
        for slot in slots {
            let of_slot = |routes: &[StoredRoute]| routes.iter().filter(|r| r.slot == slot).cloned().collect::<Vec<_>>();
            let holding: Vec<_> = expected.iter()
                .map(|(offset, sequence, routes, via)| (*offset, *sequence, of_slot(routes), via.clone()))
                .filter(|(_, _, routes, _)| !routes.is_empty()).collect();
            // The index that is being built answers as the one that was written.
            for read in [index.read(slot, 0, u64::MAX, 100), builder.read(slot, 0, u64::MAX, 100)] {
                let read: Vec<_> = read.unwrap().into_iter().map(|r| (r.offset, r.sequence, r.routes, r.via)).collect();
                prop_assert_eq!(&read, &holding);
            }
        }
        for n in 0..bytes.len() {
            prop_assert!(SealedIndex::decode(bytes[..n].to_vec()).is_none());
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Page::decode(&bytes);
        let _ = RecordHeader::decode(&bytes);
        let _ = Meta::decode(&bytes, 3);
        if let Some(index) = SealedIndex::decode(bytes.clone()) {
            let slots: Vec<_> = index.slots().collect();
            slots.into_iter().for_each(|(slot, first, end)| drop(index.read(slot, first, end, 9)));
        }
        let _ = journal::read(&bytes);
        let _ = Checkpoint::decode(&bytes);
    }

    #[test]
    fn a_journal_gives_back_all_but_what_is_damaged(
        entries in proptest::collection::vec((0..9u32, 0u64..500, 1u64..90, 0u8..3), 1..30), cut in 0.0f64..1.0, flip in 0.0f64..1.0,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (file, start) = Journal::create(&Disk::default(), dir.path(), 4, 2, &[(0, key(1)), (1, key(2))]).unwrap();
        let mut ends = Vec::new();
        let mut bytes = Vec::new();
        let written: Vec<_> = entries.iter().map(|(slot, first, spans, outcome)| {
            let outcome = Outcome::from_codes(*outcome, 0).unwrap();
            let one = Settled { slot: *slot, sequence: first + 9, first: *first, spans: *spans, outcome, bytes: 100 };
            let other = Settled { first: first + 500, outcome: Outcome::Delivered, ..one.clone() };
            let entry = match first % 3 {
                0 => JournalEntry::Together(*slot, vec![one, other]),
                _ => JournalEntry::Settled(one),
            };
            entry.encode(&mut bytes);
            ends.push(start as usize + bytes.len());
            entry
        }).collect();
        file.write_at(&bytes, start).unwrap();
        let whole = std::fs::read(&journal::list(&Disk::default(), dir.path()).unwrap()[0].1).unwrap();
        let slots = [JournalEntry::Slot { slot: 0, key: key(1) }, JournalEntry::Slot { slot: 1, key: key(2) }];
        let all: Vec<_> = slots.into_iter().chain(written).collect();
        prop_assert_eq!(&journal::read(&whole).unwrap().entries, &all);
        // Torn: what ends before the cut is there.
        let cut = (whole.len() as f64 * cut) as usize;
        let read = journal::read(&whole[..cut]).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut).count();
        if cut >= start as usize {
            prop_assert_eq!(&read.entries[..], &all[..kept + 2]);
            prop_assert_eq!(read.damaged, 0);
        }
        // One flipped bit costs one entry, wherever it is (the header's bits cost none).
        let mut flipped = whole.clone();
        let at = ((whole.len() - 1) as f64 * flip) as usize;
        flipped[at] ^= 0x08;
        if let Ok(read) = journal::read(&flipped) {
            let lost = if at < 32 { 0 } else { 1 };
            prop_assert!(read.entries.len() + lost >= all.len(), "{} of {}", read.entries.len(), all.len());
            prop_assert!(read.entries.iter().all(|e| all.contains(e)));
        }
    }

    #[test]
    fn a_walk_finds_every_record_that_is_whole(
        lens in proptest::collection::vec(0usize..3000, 1..12), flips in proptest::collection::vec((0.0f64..1.0, 0u8..8), 0..5), cut in 0.0f64..1.5,
    ) {
        let mut bytes = header().encode();
        let mut places = Vec::new();
        for (sequence, len) in (1u64..).zip(&lens) {
            let (start, payload) = (bytes.len(), content(sequence, *len));
            let mut record = vec![0; RECORD_HEADER];
            Meta { workspace: [1; 16], config_generation: 1, routes: Vec::new(), skips: Vec::new(), trace_keys: Bytes::new(), origin: Origin::default(), kept: None }.encode(&mut record);
            let head = record_header(sequence, record.len() - RECORD_HEADER, &payload, 0);
            head.encode_before_meta(&mut record, 0);
            record.extend_from_slice(&payload);
            let whole = record.len();
            record.resize(head.total_len() as usize, 0);
            bytes.extend(record);
            places.push((sequence, start, start + whole, bytes.len()));
        }
        // Old records of another life follow.
        let tail = bytes.len();
        let old: Vec<u8> = bytes[4096..].to_vec();
        bytes.extend(old.iter());
        put_life(&mut bytes[tail..], Life { number: 5, ..LIFE });
        let mut damaged = bytes.clone();
        damaged.truncate((bytes.len() as f64 * cut.max(0.3)) as usize);
        let used = tail.min(damaged.len());
        for (place, bit) in flips {
            let at = 4096 + ((used - 4096.min(used)) as f64 * place) as usize;
            if at < used { damaged[at] ^= 1 << bit; }
        }
        let untouched: Vec<u64> = places.iter()
            .filter(|(_, start, end, padded)| *padded <= damaged.len() && damaged[*start..*end] == bytes[*start..*end])
            .map(|(sequence, ..)| *sequence).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, &damaged).unwrap();
        let file = Disk::default().open_read(&path).unwrap();
        let mut walk = Walk::new(&file, LIFE, damaged.len() as u64, Some(0));
        let mut found = Vec::new();
        let mut last = HEADER_PAGE;
        while let Some(step) = walk.step() {
            match step {
                Step::Record(record) => {
                    prop_assert_eq!(record.offset, last);
                    last = record.offset + record.header.total_len();
                    found.push(record.header.sequence);
                }
                Step::Hole { from, to } => {
                    prop_assert!(from == last && to > from);
                    last = to;
                }
            }
        }
        prop_assert_eq!(found, untouched);
    }
}

/// Rewrites the records of `bytes` as those of another life (their checksums no longer matter: life is looked at
/// first).
fn put_life(bytes: &mut [u8], life: Life) {
    let mut at = 0;
    while let Some((header, _)) = bytes.get(at..).and_then(RecordHeader::decode) {
        let len = header.total_len() as usize;
        let meta = bytes[at + RECORD_HEADER..at + RECORD_HEADER + header.meta_len as usize].to_vec();
        let mut record = vec![0; RECORD_HEADER];
        record.extend(meta);
        RecordHeader { life, ..header }.encode_before_meta(&mut record, 0);
        bytes[at..at + record.len()].copy_from_slice(&record);
        at += len;
    }
}

#[test]
fn a_checkpoint_round_trips_and_shows_every_flipped_bit() {
    let mut checkpoint =
        Checkpoint { epoch: 4, applied: 900, segment: 17, journal: 6, ..Checkpoint::default() };
    checkpoint.ledger.accepted = 1234;
    checkpoint.ledger.assign(0, key(3));
    checkpoint.ledger.assign(2, key(4));
    let account = checkpoint.ledger.account_made(2);
    account.select(0, 50, 5000, 88);
    account.settle(10, 20, 1000, Outcome::DeadLettered(DeadReason::TooLarge));
    account.settle(0, 5, 500, Outcome::Delivered);
    checkpoint.ledger.skip(2, SkipReason::Key, 7);
    checkpoint.wanted = vec![
        Wanted {
            number: 3,
            file: 1,
            last_sequence: 40,
            held: Some(vec![(0, 2, 9), (7, 1 << 40, (1 << 40) + 3)]),
        },
        Wanted { number: 16, file: 4, ..Wanted::default() },
    ];
    checkpoint.traces = vec![(55, Bytes::from_static(b"trace"))];
    checkpoint.damage = Damage { records: 1, journal_entries: 2, journal_spans: 3, quarantined_bytes: 4 };
    let bytes = checkpoint.encode();
    let read = Checkpoint::decode(&bytes).unwrap();
    assert_eq!((read.epoch, read.applied, read.segment, read.journal), (4, 900, 17, 6));
    assert_eq!(
        (read.wanted, read.traces, read.damage),
        (checkpoint.wanted, checkpoint.traces, checkpoint.damage)
    );
    assert_eq!(read.ledger.accepted, 1234);
    for (read, written) in read.ledger.accounts.iter().zip(&checkpoint.ledger.accounts) {
        assert_eq!((read.key, &read.counters, &read.done), (written.key, &written.counters, &written.done));
        assert_eq!((read.next_ordinal, read.pending_bytes), (written.next_ordinal, written.pending_bytes));
    }
    for n in 0..bytes.len() {
        assert!(Checkpoint::decode(&bytes[..n]).is_err());
        let mut flipped = bytes.clone();
        flipped[n] ^= 0x40;
        assert!(Checkpoint::decode(&flipped).is_err(), "byte {n}");
    }
}
