//! What is carried over for those alone that get no content: it has none, and leaves none behind.
use tracecast_otlp::Value;
use tracecast_otlp::write::{Edit, Place, Verdict, select};

use super::carry::{request, small, until_carried};
use super::*;

/// Drops what `request` says at length.
struct NoText;

impl Edit for NoText {
    fn attribute(&self, _: Place, key: &str, _: &Value<'_>) -> Verdict {
        if key == "text" { Verdict::Drop } else { Verdict::Keep }
    }
}

fn without_text(payload: &Payload, spans: &SpanSet) -> Option<Payload> {
    let mut bytes = Vec::new();
    select(payload.traces().ok()?, spans, Some(&NoText), &mut bytes);
    Some(Payload::new(bytes.into(), spans.count()))
}

/// The texts of the spans, by position in the record, that a record still has.
fn texts(stored: &Stored, spans: &SpanSet) -> Vec<bool> {
    let traces = stored.payload.traces().unwrap();
    let positions = stored.positions(spans).expect("all of it is there");
    positions.iter().map(|i| traces.span(i as usize).attribute("text").is_some()).collect()
}

#[test]
fn what_only_those_want_that_get_no_content_is_carried_without() {
    const SPANS: u32 = 4;
    const PRIVATE: Slot = 0;
    const OPEN: Slot = 1;
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { without_content: Some(without_text), ..small(dir.path()) };
    let (log, _) = Log::open(options()).unwrap();
    assert_eq!((log.slot(key(1)), log.slot(key(2))), (PRIVATE, OPEN));
    let set = |positions: &[u32]| SpanSet::from_positions(SPANS, positions.iter().copied());
    // Of every record the first two and the last for the one, the last two for the other.
    let routes = [(PRIVATE, Projection::PRIVACY, set(&[0, 1, 3])), (OPEN, Projection::AS_IS, set(&[2, 3]))];
    let new = |number| NewRecord {
        accepted: SPANS,
        routes: routes
            .iter()
            .cloned()
            .map(|(slot, projection, spans)| Route { slot, projection, spans })
            .collect(),
        payload: Arc::new(request(number, SPANS)),
        ..record(number, SPANS, 0, &[])
    };
    // One of ten stays: of every other of these the one that gets content wants nothing any more.
    until_carried(&log, new, |entry| match entry.sequence % 20 {
        0 => vec![(OPEN, set(&[2, 3]))],
        10 => vec![(OPEN, set(&[2]))],
        _ => vec![(PRIVATE, set(&[0, 1, 3])), (OPEN, set(&[2, 3]))],
    });
    let check = |log: &Log| -> [usize; 2] {
        let mut narrowed = [0; 2];
        for entry in read_backlog(log) {
            let stored = block_on(log.stored(&entry)).unwrap_or_else(|e| panic!("{e}"));
            let is_open = entry.sequence % 20 == 10;
            if stored.payload.spans() == SPANS {
                // Not carried yet, or before anything of it had ended: then the first two were for the one alone.
                let there = texts(&stored, &SpanSet::all(SPANS));
                assert!(
                    [[true; 4], [false, false, true, true]].contains(&there[..].try_into().unwrap()),
                    "{there:?}"
                );
                continue;
            }
            narrowed[usize::from(is_open)] += 1;
            assert_eq!(texts(&stored, &set(&[0, 1, 3])), [false, false, is_open]);
        }
        narrowed
    };
    let before = check(&log);
    assert!(before.iter().all(|n| *n > 0), "{before:?}");
    log.close();
    drop(log);
    let (log, recovered) = Log::open(options()).unwrap();
    assert_eq!(recovered.notes, Vec::<String>::new());
    let after = check(&log);
    assert!(after[0] >= before[0] && after[1] >= before[1], "{before:?} {after:?}");
}
