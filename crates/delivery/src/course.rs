//! How far a destination has read in the log: what of its backlog is queued, what is on its way, what is still unread.

use std::ops::Range;

use tokio::time::Instant;
use tracecast_log::Sequence;

/// How far the queue goes, and whether the log goes on from there.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// The ordinal up to which everything pending was queued.
    pub(crate) next: u64,
    /// Everything from `next` on is read from the log when the queue runs low; otherwise it comes by itself.
    pub(crate) behind: bool,
    /// A page is being read.
    pub(crate) reading: bool,
    /// The end of what came while behind.
    pub(crate) seen: u64,
    /// The record queued last.
    pub(crate) taken: Sequence,
    /// Of what follows, that which is on its way already: batches that were formed again.
    pub(crate) formed: Vec<Range<u64>>,
    /// Nothing below is pending.
    pub(crate) low: u64,
    pub(crate) failures: u32,
    pub(crate) not_before: Option<Instant>,
}

impl Course {
    /// Everything pending up to `next` was queued.
    pub(crate) fn advance(&mut self, next: u64) {
        self.next = self.next.max(next);
        let next = self.next;
        self.formed.retain(|range| range.end > next);
    }

    /// Of a stretch what is not on its way.
    pub(crate) fn not_formed(&self, rest: Range<u64>) -> Vec<Range<u64>> {
        let mut left = Vec::new();
        let mut at = rest.start;
        for formed in self.formed.iter().filter(|formed| formed.start < rest.end) {
            left.push(at..formed.start);
            at = at.max(formed.end);
        }
        left.push(at..rest.end);
        left.retain(|range| !range.is_empty());
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_is_not_given_up_with_the_unread() {
        let mut course = Course { formed: vec![2..4, 4..5, 9..12], ..Course::default() };
        assert_eq!(course.not_formed(0..15), [0..2, 5..9, 12..15]);
        assert_eq!(course.not_formed(3..13), [5..9, 12..13]);
        assert!(course.not_formed(9..12).is_empty());
        course.advance(4);
        assert_eq!((course.next, course.formed.as_slice()), (4, [4..5, 9..12].as_slice()));
        course.advance(1);
        assert_eq!(course.next, 4, "it never goes back");
    }
}
