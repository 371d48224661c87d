//! Bounds of the trace memory, and its bytes in records.

use super::*;
use crate::trace_keys::{Item, StoredKey, Verdict, Writer, read};
use proptest::prelude::*;

fn learn(memory: &TraceMemory, plan: &Plan, trace: u64, now: u64) -> Decision {
    let span = generation(trace, 1, 0, "m").with("session.id", format!("session of {trace}"));
    plan.decide(&request(&[span]), &at(now), memory)
}

#[test]
fn it_stays_within_its_bytes_and_the_oldest_go_first() {
    let plan = plan(&[sampled_destination(1, 0.5), model_destination(2, "m")]);
    let bound = 20_000;
    let memory = TraceMemory::new(bound);
    for trace in 0..1000 {
        learn(&memory, &plan, trace, NOW + trace);
        assert!(memory.bytes() <= bound);
    }
    let held = memory.len() as u64;
    assert!(held > 20, "{held}");
    assert_eq!(memory.evicted(), 1000 - held);
    // The last ones are known, so a span that says nothing is placed as the generation was.
    let known =
        |trace| selected(&plan.decide(&request(&[span(trace, 2, 1)]), &at(NOW + 1000), &memory), 2) == [0];
    assert!(known(999) && known(1000 - held + 10));
    assert!(!known(1000 - held - 1) && !known(0));
}

#[test]
fn with_no_room_it_remembers_nothing_and_says_so() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    let memory = TraceMemory::new(0);
    let first = learn(&memory, &plan, 1, NOW);
    assert_eq!((memory.len(), memory.bytes(), memory.evicted()), (0, 0, 1));
    assert_eq!(learn(&memory, &plan, 1, NOW).routes.len(), first.routes.len());
}

#[test]
fn what_is_past_its_time_goes_uncounted() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    let memory = TraceMemory::default();
    for trace in 0..100 {
        learn(&memory, &plan, trace, NOW);
    }
    learn(&memory, &plan, 100, NOW + 10 * MINUTE);
    assert_eq!((memory.len(), memory.evicted()), (1, 0));
    let alone = TraceMemory::default();
    learn(&alone, &plan, 100, NOW);
    assert_eq!(memory.bytes(), alone.bytes());
}

#[test]
fn a_clock_that_jumps_back_does_no_harm() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    let memory = TraceMemory::new(20_000);
    for trace in 0..500 {
        learn(&memory, &plan, trace, NOW - trace * MINUTE);
        learn(&memory, &plan, trace / 2, NOW - trace * MINUTE);
        assert!(memory.bytes() <= 20_000);
    }
}

#[test]
fn bytes_of_the_charge_are_given_back() {
    let plan = plan(&[sampled_destination(1, 0.5), model_destination(2, "m")]);
    let memory = TraceMemory::default();
    // Refreshed, given verdicts, and at last expired.
    for minute in [0, 3, 6, 12, 40] {
        for trace in 0..20 {
            learn(&memory, &plan, trace, NOW + minute * MINUTE);
        }
    }
    let fresh = TraceMemory::default();
    for trace in 0..20 {
        learn(&fresh, &plan, trace, NOW);
    }
    assert_eq!(memory.bytes(), fresh.bytes());
}

#[test]
fn the_latest_record_says_which_key_holds() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    let memory = TraceMemory::default();
    let record = |session: &str| {
        let span = generation(1, 1, 0, "m").with("session.id", session);
        decide(&plan, &[span], &TraceMemory::default())
    };
    let one = record("one");
    let other = (0..).map(|n| record(&format!("{n}"))).find(|other| other.routes.len() != one.routes.len());
    let other = other.unwrap();
    // As after an eviction between the two.
    memory.restore(NOW, &one.trace_keys);
    memory.restore(NOW, &other.trace_keys);
    assert_eq!(decide(&plan, &[span(1, 2, 1)], &memory).routes.len(), other.routes.len());
    assert_eq!(memory.len(), 1);
}

#[test]
fn the_layout_is_as_documented() {
    let mut writer = Writer::default();
    writer.key(&[1; 16], &StoredKey::TraceId);
    writer.key(&[2; 16], &StoredKey::Session(b"ab".as_slice().into()));
    writer.key(&[3; 16], &StoredKey::Session(b"ab".as_slice().into()));
    writer.verdicts(
        &[4; 16],
        [Verdict { slot: 5, passed: true }, Verdict { slot: 300, passed: false }].into_iter(),
    );
    let mut expected = vec![1];
    expected.extend([[1; 16].as_slice(), &[1]].concat());
    expected.extend([[2; 16].as_slice(), &[2, 2, b'a', b'b']].concat());
    expected.extend([[3; 16].as_slice(), &[3]].concat());
    expected.extend([[4; 16].as_slice(), &[4, 2, 5, 1, 0xac, 0x02, 0]].concat());
    assert_eq!(writer.into_bytes(), expected);
}

#[test]
fn unknown_versions_and_damage_are_tolerated() {
    let memory = TraceMemory::default();
    for bytes in [b"".as_slice(), &[0], &[2, 1, 1, 1], &[1], &[1, 9, 9], &[1; 17], &[255; 100]] {
        memory.restore(NOW, bytes);
    }
    assert!(memory.is_empty());
    // The item before the damage counts.
    let mut writer = Writer::default();
    writer.key(&[7; 16], &StoredKey::TraceId);
    let mut bytes = writer.into_bytes();
    bytes.extend([8; 16]);
    bytes.push(0xf0);
    memory.restore(NOW, &bytes);
    assert_eq!(memory.len(), 1);
}

fn any_items() -> impl Strategy<Value = Vec<Item>> {
    let key = prop::option::of(prop_oneof![
        Just(StoredKey::TraceId),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|text| StoredKey::Session(text.into())),
        Just(StoredKey::Session(b"again".as_slice().into())),
    ]);
    let verdict = (any::<u32>(), any::<bool>()).prop_map(|(slot, passed)| Verdict { slot, passed });
    let item = (any::<[u8; 16]>(), key, prop::collection::vec(verdict, 1..4));
    prop::collection::vec(
        item.prop_map(|(trace, key, verdicts)| match key {
            Some(_) => Item { trace, key, verdicts: Vec::new() },
            None => Item { trace, key, verdicts },
        }),
        0..20,
    )
}

proptest! {
    #[test]
    fn items_survive_the_round_trip_and_a_cut_keeps_a_prefix(items in any_items(), cut in any::<prop::sample::Index>()) {
        let mut writer = Writer::default();
        for item in &items {
            match &item.key {
                Some(key) => writer.key(&item.trace, key),
                None => writer.verdicts(&item.trace, item.verdicts.iter().copied()),
            }
        }
        let bytes = writer.into_bytes();
        prop_assert_eq!(read(&bytes).collect::<Vec<_>>(), items.clone());
        let part: Vec<Item> = read(&bytes[..cut.index(bytes.len() + 1)]).collect();
        prop_assert_eq!(&items[..part.len()], &part[..]);
    }

    #[test]
    fn no_bytes_can_hurt(bytes in prop::collection::vec(any::<u8>(), 0..200), bound in 0usize..3000) {
        let memory = TraceMemory::new(bound);
        memory.restore(NOW, &bytes);
        let mut versioned = vec![1];
        versioned.extend(&bytes);
        memory.restore(NOW, &versioned);
        prop_assert!(memory.bytes() <= bound);
    }
}
