//! What a destination has shown to take in one request and what it has refused for its size: later batches
//! stay between the two.

use std::time::Duration;

use tokio::time::Instant;

/// How long a size is remembered.
const LIFE: Duration = Duration::from_secs(3600);
/// Batches are never made smaller than this. While a batch is halved to find the one span that is too large, ever smaller
/// sizes are refused: the others must not go one by one meanwhile.
const FLOOR_BYTES: u64 = 16 << 10;
const FLOOR_SPANS: u64 = 50;

/// Bytes before compression, and spans, of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    pub(crate) spans: u32,
}

/// The largest sizes accepted and the smallest refused within the last hour.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    bytes: Measure,
    spans: Measure,
}

/// One of the two measures of a size.
#[derive(Debug, Default)]
struct Measure {
    accepted: Option<(u64, Instant)>,
    refused: Option<(u64, Instant)>,
}

impl Learned {
    pub(crate) fn accepted(&mut self, size: Size, now: Instant) {
        let (bytes, spans) = (size.bytes, u64::from(size.spans));
        // As large as what was refused in both measures: the limit was raised.
        if self.bytes.refuses(bytes, now) && self.spans.refuses(spans, now) {
            (self.bytes.refused, self.spans.refused) = (None, None);
        }
        self.bytes.accept(bytes, now);
        self.spans.accept(spans, now);
    }

    pub(crate) fn refused(&mut self, size: Size, now: Instant) {
        let (bytes, spans) = (size.bytes, u64::from(size.spans));
        // No larger than what was accepted in both measures: the limit was lowered.
        if self.bytes.accepts(bytes, now) && self.spans.accepts(spans, now) {
            (self.bytes.accepted, self.spans.accepted) = (None, None);
        }
        self.bytes.refuse(bytes, now);
        // A single span says nothing about how many are too many.
        if spans > 1 {
            self.spans.refuse(spans, now);
        }
    }

    /// Bytes and spans that a batch may have.
    pub(crate) fn maxima(&self, now: Instant) -> (u64, u32) {
        let bytes = self.bytes.max(now).map_or(u64::MAX, |max| max.max(FLOOR_BYTES));
        let spans =
            self.spans.max(now).map_or(u32::MAX, |max| max.max(FLOOR_SPANS).try_into().unwrap_or(u32::MAX));
        (bytes, spans)
    }

    /// How small a single span of `bytes`, which was refused, is to be made. It is made smaller only once, so
    /// that rather too much is cut than all is lost: to what is known to be taken, or to a quarter.
    pub(crate) fn shrink_to(&self, bytes: u64, now: Instant) -> u64 {
        let accepted = live(self.bytes.accepted, now).filter(|accepted| *accepted < bytes);
        accepted.unwrap_or(0).max(bytes / 4)
    }
}

impl Measure {
    fn accept(&mut self, value: u64, now: Instant) {
        if live(self.accepted, now).is_none_or(|largest| value >= largest) {
            self.accepted = Some((value, now + LIFE));
        }
    }

    fn refuse(&mut self, value: u64, now: Instant) {
        let smallest = live(self.refused, now).map_or(value, |smallest| smallest.min(value));
        self.refused = Some((smallest, now + LIFE));
    }

    fn accepts(&self, value: u64, now: Instant) -> bool {
        live(self.accepted, now).is_some_and(|largest| value <= largest)
    }

    fn refuses(&self, value: u64, now: Instant) -> bool {
        live(self.refused, now).is_some_and(|smallest| value >= smallest)
    }

    /// Below what was refused, and no lower than what was accepted. `None` if nothing was refused, or if as
    /// much was accepted: then it was the other measure that was too large.
    fn max(&self, now: Instant) -> Option<u64> {
        let refused = live(self.refused, now)?;
        let accepted = live(self.accepted, now).unwrap_or(0);
        (accepted < refused).then(|| accepted.max(refused / 2))
    }
}

fn live(mark: Option<(u64, Instant)>, now: Instant) -> Option<u64> {
    mark.filter(|(_, until)| *until > now).map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(bytes: u64, spans: u32) -> Size {
        Size { bytes, spans }
    }

    const FREE: (u64, u32) = (u64::MAX, u32::MAX);

    #[test]
    fn nothing_is_known_at_first_and_again_after_an_hour() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        assert_eq!(learned.maxima(now), FREE);
        learned.refused(size(1_000_000, 500), now);
        assert_eq!(learned.maxima(now + LIFE - Duration::from_secs(1)), (500_000, 250));
        assert_eq!(learned.maxima(now + LIFE), FREE);
    }

    #[test]
    fn batches_stay_between_the_accepted_and_the_refused() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learned.refused(size(1_000_000, 500), now);
        learned.accepted(size(800_000, 300), now);
        assert_eq!(learned.maxima(now), (800_000, 300));
        learned.refused(size(600_000, 400), now);
        assert_eq!(learned.maxima(now).1, 300, "by count, 400 is the smallest refused");
    }

    #[test]
    fn the_measure_that_is_not_to_blame_is_not_limited() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        // Ten large spans are too much, a hundred small ones are not.
        learned.accepted(size(50_000, 100), now);
        learned.refused(size(5_000_000, 10), now);
        assert_eq!(learned.maxima(now), (2_500_000, u32::MAX));
    }

    #[test]
    fn a_single_span_limits_bytes_only() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learned.refused(size(5_000_000, 1), now);
        assert_eq!(learned.maxima(now), (2_500_000, u32::MAX));
    }

    #[test]
    fn newer_evidence_wins() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learned.accepted(size(1_000_000, 100), now);
        learned.refused(size(400_000, 100), now);
        assert_eq!(learned.maxima(now), (200_000, 50), "the limit was lowered");
        learned.accepted(size(400_000, 100), now);
        assert_eq!(learned.maxima(now), FREE, "and raised");
    }

    #[test]
    fn tiny_refusals_do_not_make_tiny_batches() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learned.refused(size(1_000, 2), now);
        assert_eq!(learned.maxima(now), (FLOOR_BYTES, FLOOR_SPANS as u32));
    }

    #[test]
    fn a_span_is_shrunk_to_what_is_known_to_pass() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        assert_eq!(learned.shrink_to(1_000_000, now), 250_000);
        learned.accepted(size(100_000, 1), now);
        assert_eq!(learned.shrink_to(1_000_000, now), 250_000);
        learned.accepted(size(900_000, 1), now);
        assert_eq!(learned.shrink_to(1_000_000, now), 900_000);
        assert_eq!(learned.shrink_to(800_000, now), 200_000, "what passed was another matter");
    }
}
