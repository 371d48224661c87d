//! Laws of span sets, against a set of numbers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::generate::Rng;
use crate::SpanSet;

fn sets() -> impl Strategy<Value = (u32, BTreeSet<u32>, BTreeSet<u32>)> {
    (prop_oneof![0u32..10, 60u32..70, 120u32..200], any::<u64>()).prop_map(|(len, seed)| {
        let mut rng = Rng::new(seed);
        let mut set = || {
            let one_in = 1 + rng.below(5);
            (0..len).filter(|_| rng.one_in(one_in)).collect()
        };
        (len, set(), set())
    })
}

fn of(len: u32, set: &BTreeSet<u32>) -> SpanSet {
    SpanSet::from_positions(len, set.iter().copied())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn behaves_like_a_set((len, a, b) in sets()) {
        let (x, y) = (of(len, &a), of(len, &b));
        prop_assert_eq!(x.len(), len);
        prop_assert_eq!(x.count() as usize, a.len());
        prop_assert_eq!(x.is_all(), a.len() == len as usize);
        prop_assert_eq!(x.is_empty(), a.is_empty());
        prop_assert_eq!(x.iter().collect::<BTreeSet<_>>(), a.clone());
        prop_assert!(x.iter().is_sorted());
        prop_assert!((0..len + 70).all(|i| x.contains(i) == a.contains(&i)));
        prop_assert_eq!(x.union(&y), of(len, &(&a | &b)));
        prop_assert_eq!(x.intersection(&y), of(len, &(&a & &b)));
        prop_assert_eq!(x.difference(&y), of(len, &(&a - &b)));
    }

    #[test]
    fn equal_however_made((len, a, _) in sets()) {
        let mut inserted = SpanSet::none(len);
        a.iter().for_each(|&i| inserted.insert(i));
        inserted.insert(len);
        inserted.insert(u32::MAX);
        prop_assert_eq!(&inserted, &of(len, &a));
        let mut bytes = vec![9];
        inserted.encode(&mut bytes);
        let (read, used) = SpanSet::decode(&bytes[1..]).unwrap();
        prop_assert_eq!((read, used), (inserted, bytes.len() - 1));
        for cut in 1..bytes.len() {
            prop_assert!(SpanSet::decode(&bytes[1..cut]).is_none());
        }
    }

    #[test]
    fn positions_within_what_was_kept((len, a, b) in sets()) {
        let kept: Vec<u32> = b.iter().copied().collect();
        let expected: BTreeSet<u32> =
            a.iter().filter_map(|i| kept.binary_search(i).ok()).map(|place| place as u32).collect();
        prop_assert_eq!(of(len, &a).within(&of(len, &b)), of(kept.len() as u32, &expected));
    }

    #[test]
    fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Some((set, used)) = SpanSet::decode(&bytes) {
            prop_assert!(used <= bytes.len() && set.count() <= set.len());
        }
    }
}

#[test]
fn limits() {
    assert_eq!(SpanSet::all(0), SpanSet::none(0));
    assert_eq!(SpanSet::all(64).count(), 64);
    assert_eq!(SpanSet::all(u32::MAX).count(), u32::MAX);
    assert!(SpanSet::all(5).is_all() && !SpanSet::all(5).is_empty());
    // A huge claimed length with no bitmap behind it, and stray bits.
    assert!(SpanSet::decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0]).is_none());
    assert!(SpanSet::decode(&[3, 1, 0b1000]).is_none());
    assert_eq!(SpanSet::decode(&[3, 1, 0b0101]), Some((SpanSet::from_positions(3, [0, 2]), 3)));
    assert_eq!(SpanSet::decode(&[3, 0, 77]), Some((SpanSet::all(3), 2)));
    assert!(SpanSet::decode(&[3, 2]).is_none());
}
