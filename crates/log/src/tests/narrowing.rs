//! What is carried over for those alone that get no content: it has none, and leaves none behind.
use std::path::PathBuf;
use std::time::Instant;
use tracecast_otlp::Value;
use tracecast_otlp::write::{Edit, OwnedValue, Place, SpanBuilder, Verdict, resource_spans, select};

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

/// The segment files that hold these bytes.
fn files_with(dir: &Path, bytes: &[u8]) -> Vec<(PathBuf, Vec<u8>)> {
    let files = std::fs::read_dir(dir.join("segments")).unwrap().map(|file| file.unwrap().path());
    let read = files.map(|path| (path.clone(), std::fs::read(path).unwrap()));
    read.filter(|(_, content)| content.windows(bytes.len()).any(|window| window == bytes)).collect()
}

#[test]
fn no_file_keeps_content_that_was_left_out_of_a_copy() {
    const PRIVATE: Slot = 0;
    const OPEN: Slot = 1;
    const CANARY: &[u8] = b"canary of the content";
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { without_content: Some(without_text), ..small(dir.path()) };
    let (log, _) = Log::open(options()).unwrap();
    assert_eq!((log.slot(key(1)), log.slot(key(2))), (PRIVATE, OPEN));
    let collector = Collector::on(&log);
    let route = |slot, projection| Route { slot, projection, spans: SpanSet::all(1) };
    let append = |text: &[u8], routes: Vec<Route>| -> Arc<Entry> {
        let mut spans = Vec::new();
        let span = SpanBuilder {
            trace_id: [7; 16],
            span_id: [7; 8],
            attributes: vec![(
                "text".to_owned(),
                OwnedValue::Str(text.escape_ascii().to_string().repeat(40)),
            )],
            ..SpanBuilder::default()
        };
        resource_spans(&[], "scope", "1", &[span], &mut spans);
        let payload = Arc::new(Payload::new(spans.into(), 1));
        let sequence = keep(&log, NewRecord { routes, payload, ..record(0, 1, 0, &[]) });
        collector.upto(sequence).pop().unwrap()
    };
    let both = || vec![route(PRIVATE, Projection::PRIVACY), route(OPEN, Projection::AS_IS)];
    let entries: Vec<_> = (0..90).map(|_| append(CANARY, both())).collect();
    log.flush().unwrap();
    let before = files_with(dir.path(), CANARY);
    assert!(before.len() >= 4, "{}", before.len());
    // Nobody wants the content any more before anything is worth a copy: one of five stays.
    entries.iter().for_each(|entry| settle(&log, entry, OPEN, Outcome::Delivered));
    log.flush().unwrap();
    let ended = entries.iter().enumerate().filter(|(n, _)| n % 5 > 0);
    ended.for_each(|(_, entry)| settle(&log, entry, PRIVATE, Outcome::Delivered));
    let is_narrowed = || {
        // What the other one was to get is on its way out.
        let backlog = read_backlog(&log).into_iter();
        let mut private = backlog.filter(|entry| entry.routes.iter().any(|route| route.slot == PRIVATE));
        private.all(|entry| {
            let stored = block_on(log.stored(&entry)).unwrap_or_else(|e| panic!("{e}"));
            texts(&stored, &SpanSet::all(1)) == [false]
        })
    };
    let begun = Instant::now();
    while !is_narrowed() {
        assert!(begun.elapsed() < PATIENCE, "nothing is carried");
        // So that the segment with the last of them is full.
        let other = append(b"something else", vec![route(OPEN, Projection::AS_IS)]);
        settle(&log, &other, OPEN, Outcome::Delivered);
    }
    log.close();
    drop(log);
    let paths = |files: Vec<(PathBuf, Vec<u8>)>| files.into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(paths(files_with(dir.path(), CANARY)), Vec::<PathBuf>::new());

    // A power cut may bring back what was removed.
    for (path, bytes) in before.iter().filter(|(path, _)| !path.exists()) {
        std::fs::write(path, bytes).unwrap();
    }
    assert!(!files_with(dir.path(), CANARY).is_empty());
    let (log, recovered) = Log::open(options()).unwrap();
    assert_eq!((recovered.notes, log.books(PRIVATE).pending), (Vec::new(), 18));
    assert_eq!(paths(files_with(dir.path(), CANARY)), Vec::<PathBuf>::new());
}
