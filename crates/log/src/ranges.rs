//! Done sets: which of a destination's own ordinals are final.
use std::collections::BTreeMap;

/// Everything below `low` is done, plus the ranges above it. Sparse selection stays one range because a
/// destination counts only the spans it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    low: u64,
    /// start -> end, disjoint, not touching, all above `low`.
    above: BTreeMap<u64, u64>,
}

impl Done {
    pub(crate) fn starting_at(low: u64) -> Done {
        Done { low, above: BTreeMap::new() }
    }

    /// The first ordinal that is not done.
    pub(crate) fn low(&self) -> u64 {
        self.low
    }

    /// The first ordinal from `at` on that is not done.
    pub(crate) fn next_missing(&self, at: u64) -> u64 {
        let at = at.max(self.low);
        // Ranges do not touch, so behind one there is always something missing.
        self.above.range(..=at).next_back().map_or(at, |(_, &end)| at.max(end))
    }

    pub(crate) fn above(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.above.iter().map(|(&start, &end)| (start, end))
    }

    pub(crate) fn above_len(&self) -> usize {
        self.above.len()
    }

    /// The parts of `start..end` that are not done, in order.
    pub(crate) fn missing(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let mut at = start.max(self.low);
        if at >= end {
            return found;
        }
        let before = self.above.range(..=at).next_back();
        if let Some((_, &covered)) = before {
            at = at.max(covered);
        }
        for (&next, &next_end) in self.above.range(at..) {
            if next >= end {
                break;
            }
            if next > at {
                found.push((at, next));
            }
            at = at.max(next_end);
        }
        if at < end {
            found.push((at, end));
        }
        found
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, ordinal: u64) -> bool {
        ordinal < self.low || self.above.range(..=ordinal).next_back().is_some_and(|(_, &end)| ordinal < end)
    }

    /// Marks `start..end` and answers how many ordinals were not marked before.
    pub(crate) fn insert(&mut self, start: u64, end: u64) -> u64 {
        let start = start.max(self.low);
        if start >= end {
            return 0;
        }
        let (mut from, mut to) = (start, end);
        let mut known = 0;
        if let Some((&left, &left_end)) = self.above.range(..start).next_back()
            && left_end >= start
        {
            known += left_end.min(end) - start;
            (from, to) = (left, to.max(left_end));
            self.above.remove(&left);
        }
        while let Some((&right, &right_end)) = self.above.range(start..=end).next() {
            known += right_end.min(end) - right.min(end);
            to = to.max(right_end);
            self.above.remove(&right);
        }
        if from <= self.low {
            self.low = to;
        } else {
            self.above.insert(from, to);
        }
        end - start - known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(inserts in proptest::collection::vec((0u64..60, 0u64..20), 0..40), probe in (0u64..80, 0u64..30)) {
            let mut done = Done::default();
            let mut model = BTreeSet::new();
            for (start, len) in inserts {
                let fresh = (start..start + len).filter(|o| model.insert(*o)).count() as u64;
                prop_assert_eq!(done.insert(start, start + len), fresh);
                for o in 0..90 {
                    prop_assert_eq!(done.contains(o), model.contains(&o));
                }
                // Ranges are disjoint and do not touch.
                let mut last = done.low();
                for (start, end) in done.above() {
                    prop_assert!(start > last && end > start);
                    last = end;
                }
            }
            for at in 0..90 {
                prop_assert_eq!(done.next_missing(at), (at..).find(|o| !model.contains(o)).unwrap());
            }
            let (start, len) = probe;
            let missing: Vec<u64> = done.missing(start, start + len).into_iter().flat_map(|(a, b)| a..b).collect();
            let expected: Vec<u64> = (start..start + len).filter(|o| !model.contains(o)).collect();
            prop_assert_eq!(missing, expected);
        }
    }
}
