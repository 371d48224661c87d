//! Mutations of the corpus: what we take, a standard decoder takes and sees the same; nothing takes
//! more memory than its size explains.

use allocation_counter::measure;
use prost::Message;
use tracecast_mutate::{corpus, fuzz};

use super::hostile::check_promises;
use super::oracle::{Request, index, prost, seen_by_prost, seen_by_views};
use crate::{Limits, SpanSet, Traces, json};

fn texts() -> Vec<Vec<u8>> {
    corpus("otlp").into_iter().map(|(_, text)| text).collect()
}

/// What reading a body of this size may allocate at most: far more than it needs, far less than a
/// length field can ask for.
fn memory_max(len: usize) -> u64 {
    (1 << 20) + 512 * len as u64
}

#[test]
fn mutated_protobuf() {
    let encoded = |text: &Vec<u8>| serde_json::from_slice::<Request>(text).unwrap().encode_to_vec();
    let seeds: Vec<Vec<u8>> = texts().iter().map(encoded).collect();
    fuzz("otlp-protobuf", &seeds, 10_000, |sent| {
        let body = bytes::Bytes::copy_from_slice(sent);
        let taken = measure(|| drop(Traces::index(body, &Limits::default())));
        assert!(taken.bytes_max < memory_max(sent.len()), "{taken:?} for {} bytes", sent.len());
        if let Err(broken) = check_promises(sent) {
            panic!("{broken}");
        }
    });
}

#[test]
fn mutated_json() {
    let mut compared = 0;
    fuzz("otlp-json", &texts(), 20_000, |sent| {
        let mut read = None;
        let taken = measure(|| read = json::decode(sent, &Limits::default()).ok());
        assert!(taken.bytes_max < memory_max(sent.len()), "{taken:?} for {} bytes", sent.len());
        let Some((bytes, rejected)) = read else { return };
        let traces = index(&bytes);
        assert!(traces.is_whole());
        let seen = seen_by_views(&traces);
        assert_eq!(seen, seen_by_prost(&prost(&bytes)));
        // What we write of it reads the same.
        let mut text = b"{\"resourceSpans\":[".to_vec();
        json::encode(&traces, &SpanSet::all(traces.len() as u32), None, &mut text);
        text.extend(b"]}");
        let (again, none) = json::decode(&text, &Limits::default()).expect("our own JSON");
        assert_eq!((seen_by_views(&index(&again)), none.len()), (seen, 0));
        // What the reference reads of it is what we read.
        if let (true, Ok(reference)) = (rejected.is_empty(), serde_json::from_slice::<Request>(sent)) {
            assert_eq!(seen_by_views(&traces), seen_by_prost(&reference));
            compared += 1;
        }
    });
    assert!(compared > 500, "only {compared} inputs were good enough to compare");
}
