//! What is cut from a span that is too large, and what never is.

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tracecast_otlp::Payload;
use tracecast_otlp::write::{OwnedValue, Pairs, SpanBuilder, resource_spans};

use crate::shrink;

fn text(value: &str) -> OwnedValue {
    OwnedValue::Str(value.to_owned())
}

/// Two spans with the same attributes; the second is the one meant.
fn payload(attributes: Pairs, events: Vec<(u64, String, Pairs)>) -> Payload {
    let span = |id: u8| SpanBuilder {
        trace_id: [7; 16],
        span_id: [id; 8],
        name: "chat".to_owned(),
        start_unix_nano: 1,
        end_unix_nano: 2,
        attributes: attributes.clone(),
        events: events.clone(),
        ..SpanBuilder::default()
    };
    let mut out = Vec::new();
    let resource = [("service.name".to_owned(), text("app"))];
    resource_spans(&resource, "test", "1", &[span(1), span(2)], &mut out);
    Payload::new(out.into(), 2)
}

/// The second span shrunk, as a payload of its own.
fn shrunk(attributes: Pairs, target_bytes: usize) -> Payload {
    let out = shrink(&payload(attributes, Vec::new()), 1, target_bytes).unwrap();
    let payload = Payload::new(out.into(), 1);
    assert_eq!(payload.traces().unwrap().span(0).span_id(), [2; 8]);
    payload
}

fn pairs(attributes: &[(&str, OwnedValue)]) -> Pairs {
    attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn string(payload: &Payload, key: &str) -> String {
    let span = payload.traces().unwrap().span(0);
    span.attribute(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
}

fn is_marked(payload: &Payload, key: &str) -> bool {
    payload.traces().unwrap().span(0).attribute(key).and_then(|v| v.as_bool()) == Some(true)
}

#[test]
fn what_fits_is_left_alone() {
    let attributes = pairs(&[("gen_ai.prompt", text("hello")), ("gen_ai.completion", text("hi"))]);
    let payload = shrunk(attributes, 10_000);
    assert_eq!(string(&payload, "gen_ai.prompt"), "hello");
    assert!(!is_marked(&payload, "truncated"));
}

#[test]
fn media_gives_way_first_with_type_size_and_digest() {
    let image: Vec<u8> = (0..30_000).map(|i| (i * 131 % 251) as u8).collect();
    let digest: String = Sha256::digest(&image).iter().map(|b| format!("{b:02x}")).collect();
    let data = base64::engine::general_purpose::STANDARD.encode(&image);
    let url = format!("data:image/png;base64,{data}");
    let long = "words ".repeat(500);
    let prompt = json!([
        {"type": "text", "text": long},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
    ]);
    let payload = shrunk(pairs(&[("gen_ai.prompt", text(&prompt.to_string()))]), 10_000);
    let marker = format!("[media removed: image/png, 30000 bytes, sha256 {digest}]");
    let expected = json!([
        {"type": "text", "text": long},
        {"type": "image_url", "image_url": {"url": marker}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": marker}},
    ]);
    let found: Json = serde_json::from_str(&string(&payload, "gen_ai.prompt")).unwrap();
    assert_eq!(found, expected, "the words fit and stay");
    assert!(is_marked(&payload, "truncated") && is_marked(&payload, "gen_ai.prompt.truncated"));
}

#[test]
fn the_longest_texts_of_inputs_and_outputs_are_cut_to_fit() {
    let (input, output) = ("i".repeat(50_000), "o".repeat(40_000));
    let attributes = pairs(&[
        ("gen_ai.prompt", text(&input)),
        ("gen_ai.completion", text(&output)),
        ("gen_ai.system_instructions", text("be brief")),
    ]);
    let payload = shrunk(attributes, 20_000);
    assert!(payload.bytes().len() <= 20_000 && payload.bytes().len() > 19_000, "{}", payload.bytes().len());
    for (key, whole) in [("gen_ai.prompt", input), ("gen_ai.completion", output)] {
        let cut = string(&payload, key);
        let (head, marker) = cut.split_once('…').unwrap();
        assert!(whole.starts_with(head) && head.len() > 9_000, "{key}: {}", head.len());
        let expected = format!("[truncated: {} of {} bytes]", whole.len() - head.len(), whole.len());
        assert_eq!(marker, expected);
        assert!(is_marked(&payload, &format!("{key}.truncated")));
    }
    assert_eq!(string(&payload, "gen_ai.system_instructions"), "be brief");
    assert!(!is_marked(&payload, "gen_ai.system_instructions.truncated"));
    assert!(is_marked(&payload, "truncated"));
}

#[test]
fn metadata_usage_and_cost_are_never_cut() {
    let long = "m".repeat(20_000);
    let generation = json!({"cost": 0.25, "note": long}).to_string();
    let kept = [
        ("trace.metadata.note", text(&long)),
        ("trace.metadata.openrouter_generation", text(&generation)),
        ("user.id", text(&long)),
        ("app.version", text(&long)),
        ("gen_ai.usage.input_tokens", OwnedValue::Int(17)),
        ("gen_ai.usage.total_cost", OwnedValue::Double(0.25)),
    ];
    let mut attributes = pairs(&kept);
    attributes.push(("gen_ai.prompt".to_owned(), text(&"p".repeat(20_000))));
    let payload = shrunk(attributes, 1_000);
    let traces = payload.traces().unwrap();
    for (key, value) in kept {
        let found = traces.span(0).attribute(key).map(|v| OwnedValue::from(&v));
        assert_eq!(found, Some(value), "{key}");
    }
    assert!(string(&payload, "gen_ai.prompt").len() < 200);
    let service = traces.span(0).resource().attribute("service.name");
    assert_eq!(service.and_then(|v| v.as_str()), Some("app"));
}

#[test]
fn messages_stay_json() {
    let messages = json!([
        {"role": "system", "content": "short"},
        {"role": "user", "content": "u".repeat(30_000)},
        {"role": "user", "content": "\"\n".repeat(5_000)},
    ]);
    let structured = OwnedValue::Array(vec![OwnedValue::Map(vec![
        ("role".to_owned(), text("assistant")),
        ("content".to_owned(), text(&"a".repeat(30_000))),
    ])]);
    let attributes = pairs(&[
        ("gen_ai.input.messages", text(&messages.to_string())),
        ("gen_ai.output.messages", structured),
    ]);
    let payload = shrunk(attributes, 10_000);
    assert!(payload.bytes().len() <= 10_000);
    let input: Json = serde_json::from_str(&string(&payload, "gen_ai.input.messages")).unwrap();
    assert_eq!(input[0], json!({"role": "system", "content": "short"}));
    assert!(input[1]["content"].as_str().unwrap().contains("…[truncated: "));
    let output: Json = serde_json::from_str(&string(&payload, "gen_ai.output.messages")).unwrap();
    assert_eq!(output[0]["role"], "assistant");
    assert!(output[0]["content"].as_str().unwrap().ends_with(" of 30000 bytes]"));
}

#[test]
fn very_many_short_messages_are_cut_as_one_text() {
    let messages: Vec<Json> = (0..5_000).map(|n| json!({"role": "user", "content": n})).collect();
    let payload = shrunk(pairs(&[("gen_ai.prompt", text(&Json::from(messages).to_string()))]), 4_000);
    assert!(payload.bytes().len() <= 4_000 && payload.bytes().len() > 3_000);
    assert!(string(&payload, "gen_ai.prompt").contains("…[truncated: "));
}

#[test]
fn contents_of_events_are_cut_too() {
    let event = pairs(&[("gen_ai.prompt", text(&"e".repeat(20_000))), ("index", OwnedValue::Int(3))]);
    let whole = payload(Vec::new(), vec![(5, "gen_ai.content.prompt".to_owned(), event)]);
    let payload = Payload::new(shrink(&whole, 1, 2_000).unwrap().into(), 1);
    assert!(payload.bytes().len() <= 2_000);
    let traces = payload.traces().unwrap();
    let event = traces.span(0).events().next().unwrap();
    assert_eq!(event.attribute("index").and_then(|v| v.as_i64()), Some(3));
    assert!(event.attribute("gen_ai.prompt").unwrap().as_str().unwrap().contains("…[truncated: "));
    assert!(is_marked(&payload, "gen_ai.prompt.truncated"));
}

proptest! {
    #[test]
    fn any_text_is_cut_at_a_character_and_to_size(
        words in prop::collection::vec("\\PC{0,2000}", 1..6),
        target in 2_000usize..6_000,
    ) {
        let names = ["gen_ai.prompt", "gen_ai.completion", "input.value", "output.value", "my.prompt", "x.input"];
        let attributes: Pairs =
            names.iter().zip(&words).map(|(name, words)| ((*name).to_owned(), text(words))).collect();
        let payload = shrunk(attributes, target);
        prop_assert!(payload.bytes().len() <= target);
        for (name, words) in names.iter().zip(&words) {
            let cut = string(&payload, name);
            let marked = is_marked(&payload, &format!("{name}.truncated"));
            prop_assert_eq!(cut != *words, marked);
            let head = cut.rsplit_once("…[truncated: ").map_or(cut.as_str(), |(head, _)| head);
            prop_assert!(!marked || words.starts_with(head));
        }
    }
}
