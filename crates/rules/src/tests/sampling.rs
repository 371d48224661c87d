//! Sampling: the function, its keys, and that neither a session nor a trace is torn.

use super::*;
use crate::sampling::Sampling;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

/// The formula of the contract, done in another way: u / 2^64 < rate, compared bit by bit with the
/// binary expansion of the rate.
fn by_the_formula(destination: Uuid, key: &str, rate: f64) -> bool {
    let mut message = destination.to_string().into_bytes();
    message.push(0);
    message.extend_from_slice(key.as_bytes());
    let digest = Sha256::digest(&message);
    let mut rest = rate;
    for byte in &digest[..8] {
        for bit in (0..8).rev() {
            rest *= 2.0;
            let of_rate = u8::from(rest >= 1.0);
            rest -= f64::from(of_rate);
            match (byte >> bit & 1).cmp(&of_rate) {
                Ordering::Less => return true,
                Ordering::Greater => return false,
                Ordering::Equal => {}
            }
        }
    }
    rest > 0.0
}

fn keeps(destination: Uuid, key: &str, rate: f64) -> bool {
    Sampling::new(destination, rate).unwrap().is_none_or(|sampling| sampling.keeps(key.as_bytes()))
}

/// Whether the destination gets the one span of a request.
fn gets(plan: &Plan, span: SpanBuilder) -> bool {
    !decide(plan, &[span], &TraceMemory::new(0)).routes.is_empty()
}

#[test]
fn the_function_is_that_of_the_contract() {
    for rate in [0.0001, 0.25, 1.0 / 3.0, 0.5, 0.9, 0.999_999, 1.0 - f64::EPSILON / 2.0] {
        for n in 0..200 {
            let key = format!("session-{n}");
            assert_eq!(keeps(id(n), &key, rate), by_the_formula(id(n), &key, rate), "{key} at {rate}");
        }
    }
}

#[test]
fn known_vector() {
    // printf '5eed0000-0000-4000-8000-000000000001\0session-1' | sha256sum
    let first_eight: u64 = 0xee5e_ab36_d7d3_7b36;
    let exact = first_eight as f64 / 18_446_744_073_709_551_616.0;
    assert!(keeps(id(1), "session-1", exact * 1.000_001));
    assert!(!keeps(id(1), "session-1", exact * 0.999_999));
}

#[test]
fn the_keys_are_the_session_id_and_the_trace_id_in_hex() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    for n in 0..200 {
        let session = format!("s{n}");
        let with_session = generation(n, 1, 0, "m").with("session.id", session.as_str());
        assert_eq!(gets(&plan, with_session), by_the_formula(id(1), &session, 0.5));
        let trace = format!("aaaaaaaaaaaaaaaa{n:016x}");
        assert_eq!(gets(&plan, span(n, 1, 0)), by_the_formula(id(1), &trace, 0.5));
        let empty = span(n, 1, 0).with("session.id", "");
        assert_eq!(gets(&plan, empty), by_the_formula(id(1), &trace, 0.5));
    }
}

#[test]
fn about_the_rate_is_kept_and_destinations_differ() {
    let plan = plan(&[sampled_destination(1, 0.25), sampled_destination(2, 0.25)]);
    let spans: Vec<_> = (0..4000).map(|n| span(n, 1, 0)).collect();
    let decision = decide(&plan, &spans, &TraceMemory::default());
    let (first, second) = (selected(&decision, 1), selected(&decision, 2));
    // Four standard deviations of a fair draw are 110.
    assert!(first.len().abs_diff(1000) < 110, "{}", first.len());
    assert!(second.len().abs_diff(1000) < 110, "{}", second.len());
    let both = first.iter().filter(|i| second.contains(i)).count();
    assert!(both.abs_diff(250) < 65, "{both}");
    assert_balanced(&decision, &[1, 2], 4000);
}

#[test]
fn a_session_is_kept_or_dropped_as_a_whole() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    let memory = TraceMemory::default();
    let mut kept = [0u32; 20];
    for n in 0..1000u64 {
        let session = n % 20;
        let span = generation(n, n + 1, 0, "m").with("session.id", format!("session {session}"));
        kept[session as usize] += u32::from(!decide(&plan, &[span], &memory).routes.is_empty());
    }
    assert!(kept.iter().all(|count| [0, 50].contains(count)), "{kept:?}");
    assert!(kept.contains(&0) && kept.contains(&50), "{kept:?}");

    // The same in one request, and with spans of the traces that do not name the session.
    let spans: Vec<_> = (0..1000u64)
        .flat_map(|n| {
            let named = generation(n, 2, 1, "m").with("session.id", format!("session {}", n % 20));
            [span(n, 1, 0), named]
        })
        .collect();
    let decision = decide(&plan, &spans, &TraceMemory::default());
    let mut in_one = [0u32; 20];
    for position in selected(&decision, 1) {
        in_one[(position / 2 % 20) as usize] += 1;
    }
    assert_eq!(in_one, kept.map(|count| count * 2));
}

/// Sessions whose own sampling differs from that of trace 1.
fn opposite_session(rate: f64) -> String {
    let trace = by_the_formula(id(1), &format!("aaaaaaaaaaaaaaaa{:016x}", 1), rate);
    (0..).map(|n| format!("session {n}")).find(|s| by_the_formula(id(1), s, rate) != trace).unwrap()
}

#[test]
fn the_first_key_of_a_trace_stays() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    let session = opposite_session(0.5);
    let named = || generation(1, 2, 1, "m").with("session.id", session.as_str());
    let plain = || span(1, 1, 0);
    let by_trace = gets(&plan, plain());
    let by_session = gets(&plan, named());
    assert_ne!(by_trace, by_session);

    // Without a session first: the session that turns up later does not re-key.
    let memory = TraceMemory::default();
    for span in [plain(), named(), plain()] {
        assert_eq!(!decide(&plan, &[span], &memory).routes.is_empty(), by_trace);
    }
    // With the session first: spans that do not name it follow.
    let memory = TraceMemory::default();
    for span in [named(), plain(), named()] {
        assert_eq!(!decide(&plan, &[span], &memory).routes.is_empty(), by_session);
    }
    // In one request the order of the spans does not matter.
    for spans in [[plain(), named()], [named(), plain()]] {
        let decision = decide(&plan, &spans, &TraceMemory::default());
        assert_eq!(selected(&decision, 1).len(), if by_session { 2 } else { 0 });
    }
}

#[test]
fn two_sessions_on_one_trace_do_not_tear_it() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    for n in 0..50u64 {
        let spans: Vec<_> =
            (1..5).map(|i| generation(n, i, 0, "m").with("session.id", format!("{n}/{i}"))).collect();
        let decision = decide(&plan, &spans, &TraceMemory::default());
        let expected = if by_the_formula(id(1), &format!("{n}/1"), 0.5) { 4 } else { 0 };
        assert_eq!(selected(&decision, 1).len(), expected);
    }
}

#[test]
fn a_very_long_session_id_is_hashed_whole_and_not_remembered() {
    let plan = plan(&[sampled_destination(1, 0.5)]);
    let memory = TraceMemory::default();
    for n in 0..40 {
        let session = format!("{n}{}", "x".repeat(2 * crate::MAX_KEY_BYTES));
        let decision =
            decide(&plan, &[generation(n, 1, 0, "m").with("session.id", session.as_str())], &memory);
        assert_eq!(!decision.routes.is_empty(), by_the_formula(id(1), &session, 0.5));
        assert!(decision.trace_keys.is_empty());
    }
    assert!(memory.is_empty());
}

proptest! {
    #[test]
    fn raising_the_rate_only_adds(key in ".{0,40}", n in 0u128..1000, a in 0.0001f64..1.0, b in 0.0001f64..=1.0) {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        prop_assert!(!keeps(id(n), &key, low) || keeps(id(n), &key, high));
        prop_assert!(keeps(id(n), &key, 1.0));
        prop_assert_eq!(keeps(id(n), &key, low), by_the_formula(id(n), &key, low));
    }
}
