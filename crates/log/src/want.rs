//! What of a record somebody still wants, in which form, and a payload that holds no more than that.
use std::ops::Range;

use tracecast_otlp::write::select;
use tracecast_otlp::{Payload, SpanSet};

use crate::books::Ledger;
use crate::entry::EntryRoute;
use crate::format::StoredRoute;
use crate::types::WithoutContent;

/// More stretches of a payload that differ in form are looked for in its halves.
const RUNS_MAX: usize = 32;

/// Spans of a record, as positions in its payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Want {
    /// Those that anybody still wants.
    pub(crate) spans: SpanSet,
    /// Those of them that somebody wants as they came. The others are wanted without content.
    pub(crate) as_is: SpanSet,
}

impl Want {
    /// A slot whose owner is not known is nobody.
    pub(crate) fn of(ledger: &Ledger, routes: &[StoredRoute], spans: u32) -> Want {
        let mut want = Want { spans: SpanSet::none(spans), as_is: SpanSet::none(spans) };
        for route in routes {
            let account = ledger.account(route.slot).filter(|account| account.key.is_some());
            let Some(done) = account.map(|account| &account.done) else { continue };
            if done.next_missing(route.ordinal) >= route.end() {
                continue;
            }
            let open = done.missing(route.ordinal, route.end());
            let rest = if open == [(route.ordinal, route.end())] {
                route.spans.clone()
            } else {
                let ranks: Vec<_> =
                    open.iter().map(|(a, b)| (a - route.ordinal, b - route.ordinal)).collect();
                EntryRoute::rest(route.clone(), &ranks).spans
            };
            want.spans = want.spans.union(&rest);
            if !route.projection.is_private() {
                want.as_is = want.as_is.union(&rest);
            }
            if want.as_is.is_all() {
                break;
            }
        }
        want
    }

    /// Somebody was to get content that nobody wants any more, of a span that is still wanted.
    pub(crate) fn is_without_content_of(&self, routes: &[StoredRoute]) -> bool {
        let bare = self.spans.difference(&self.as_is);
        let mut had_it = routes.iter().filter(|route| !route.projection.is_private());
        had_it.any(|route| !route.spans.intersection(&bare).is_empty())
    }

    /// Of a payload that holds these spans of the record, the part that is wanted: the spans and the form in which
    /// somebody wants them. `None` if that is all of it, or if it cannot be cut.
    pub(crate) fn part_of(
        &self,
        payload: &Payload,
        there: &SpanSet,
        without_content: Option<WithoutContent>,
    ) -> Option<Payload> {
        let want = Want { spans: self.spans.within(there), as_is: self.as_is.within(there) };
        let is_narrower = want.as_is != want.spans;
        let narrowed = without_content.filter(|_| is_narrower).and_then(|without_content| {
            let mut bytes = Vec::new();
            want.write(payload, without_content, &mut bytes)?;
            checked(bytes, &want.spans)
        });
        if narrowed.is_some() || want.spans.is_all() {
            return narrowed;
        }
        cut(payload, &want.spans)
    }

    /// Stretches of neighbours that are wanted in the same form are written as one, because each is written with what
    /// is said of its resource and scope.
    fn write(&self, payload: &Payload, without_content: WithoutContent, out: &mut Vec<u8>) -> Option<()> {
        let mut runs: Vec<(bool, Range<u32>)> = Vec::new();
        for position in self.spans.iter() {
            let is_as_is = self.as_is.contains(position);
            match runs.last_mut() {
                Some((last, run)) if *last == is_as_is => run.end = position + 1,
                _ => runs.push((is_as_is, position..position + 1)),
            }
            if runs.len() > RUNS_MAX {
                return self.write_halves(payload, without_content, out);
            }
        }
        for (is_as_is, run) in runs {
            let spans = self.spans.intersection(&SpanSet::from_positions(self.spans.len(), run));
            if is_as_is {
                select(payload.traces().ok()?, &spans, None, out);
            } else {
                out.extend_from_slice(without_content(payload, &spans)?.bytes());
            }
        }
        Some(())
    }

    /// A span is written in a time that grows with the payload it lies in.
    fn write_halves(
        &self,
        payload: &Payload,
        without_content: WithoutContent,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let len = self.spans.len();
        for half in [0..len / 2, len / 2..len] {
            let half = SpanSet::from_positions(len, half);
            let want = Want { spans: self.spans.within(&half), as_is: self.as_is.within(&half) };
            want.write(&cut(payload, &half)?, without_content, out)?;
        }
        Some(())
    }
}

/// The payload with these spans of it alone.
fn cut(payload: &Payload, spans: &SpanSet) -> Option<Payload> {
    let mut bytes = Vec::new();
    select(payload.traces().ok()?, spans, None, &mut bytes);
    checked(bytes, spans)
}

/// The bytes as a payload, if they hold as many spans.
fn checked(bytes: Vec<u8>, spans: &SpanSet) -> Option<Payload> {
    let payload = Payload::new(bytes.into(), spans.count());
    payload.traces().is_ok().then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracecast_otlp::Value;
    use tracecast_otlp::write::{Edit, OwnedValue, Place, SpanBuilder, Verdict, resource_spans};

    /// What an attribute with this key says is content.
    const CONTENT: &str = "content";

    struct NoContent;

    impl Edit for NoContent {
        fn attribute(&self, _: Place, key: &str, _: &Value<'_>) -> Verdict {
            if key == CONTENT { Verdict::Drop } else { Verdict::Keep }
        }
    }

    fn without_content(payload: &Payload, spans: &SpanSet) -> Option<Payload> {
        let mut bytes = Vec::new();
        select(payload.traces().ok()?, spans, Some(&NoContent), &mut bytes);
        checked(bytes, spans)
    }

    /// Spans with content of their own, in several resources with content of theirs.
    fn payload(spans: u32) -> Payload {
        let attribute = |text: String| vec![(CONTENT.to_owned(), OwnedValue::Str(text))];
        let mut bytes = Vec::new();
        for first in (0..spans).step_by(7) {
            let span = |i: u32| SpanBuilder {
                trace_id: [7; 16],
                span_id: (u64::from(i) + 1).to_be_bytes(),
                name: format!("span {i}"),
                attributes: attribute(format!("of span {i}")),
                ..SpanBuilder::default()
            };
            let spans: Vec<_> = (first..spans.min(first + 7)).map(span).collect();
            resource_spans(&attribute(format!("of resource {first}")), "scope", "1", &spans, &mut bytes);
        }
        Payload::new(bytes.into(), spans)
    }

    /// Ids of the spans, and whether each has its content; whether content of a resource is there only for those that
    /// have theirs.
    fn shown(payload: &Payload) -> Vec<(u64, bool)> {
        let traces = payload.traces().expect("good bytes");
        let spans = (0..payload.spans() as usize).map(|i| {
            let span = traces.span(i);
            let id = u64::from_be_bytes(span.span_id());
            let has = span.attributes().any(|(key, _)| key == CONTENT);
            let resource_has = span.resource().attributes().any(|(key, _)| key == CONTENT);
            assert_eq!(has, resource_has, "span {id}");
            (id - 1, has)
        });
        spans.collect()
    }

    fn set(len: u32, is_in: impl Fn(u32) -> bool) -> SpanSet {
        SpanSet::from_positions(len, (0..len).filter(|i| is_in(*i)))
    }

    #[test]
    fn content_goes_where_nobody_wants_it_and_everything_keeps_its_order() {
        for spans in [1, 2, 9, 40, 333] {
            let whole = payload(spans);
            let there = SpanSet::all(spans);
            for (wanted, as_is) in
                [(1, 2), (1, 3), (2, 4), (3, 5), (1, 1_000), (2, 6)].map(|(a, b): (u32, u32)| {
                    (set(spans, |i| i.is_multiple_of(a)), set(spans, |i| i.is_multiple_of(b)))
                })
            {
                let as_is = as_is.intersection(&wanted);
                let expected: Vec<_> = wanted.iter().map(|i| (u64::from(i), as_is.contains(i))).collect();
                let want = Want { spans: wanted.clone(), as_is };
                let part = want.part_of(&whole, &there, Some(without_content));
                let part = part.as_ref().unwrap_or(&whole);
                assert_eq!(shown(part), expected, "{spans} {want:?}");
            }
        }
    }

    #[test]
    fn what_was_cut_before_is_narrowed_by_the_places_it_has_left() {
        let there = set(20, |i| i % 3 != 0);
        let before = Want { spans: there.clone(), as_is: there.clone() };
        let cut = before.part_of(&payload(20), &SpanSet::all(20), Some(without_content)).expect("less");
        let want = Want { spans: set(20, |i| i % 3 == 1), as_is: set(20, |i| i % 6 == 1) };
        let part = want.part_of(&cut, &there, Some(without_content)).expect("less");
        assert_eq!(shown(&part), [1, 4, 7, 10, 13, 16, 19].map(|i| (i, i % 6 == 1)));
    }

    #[test]
    fn what_is_all_wanted_as_it_is_or_cannot_be_read_stays() {
        let all = || Want { spans: SpanSet::all(3), as_is: SpanSet::all(3) };
        assert!(all().part_of(&payload(3), &SpanSet::all(3), Some(without_content)).is_none());
        let private = Want { spans: SpanSet::all(3), as_is: SpanSet::none(3) };
        assert!(
            private.part_of(&payload(3), &SpanSet::all(3), None).is_none(),
            "nobody knows what content is"
        );
        let damaged = Payload::new(vec![0xff; 40].into(), 3);
        assert!(private.part_of(&damaged, &SpanSet::all(3), Some(without_content)).is_none());
    }
}
