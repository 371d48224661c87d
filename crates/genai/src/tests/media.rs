//! Embedded media are replaced, everything else stays byte for byte.

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tracecast_otlp::write::{Edit, OwnedValue, Place, Verdict, select};
use tracecast_otlp::{SpanSet, Traces, Value};

use super::{one, text};
use crate::StripMedia;
use crate::media::{probe, strip};

fn base64(bytes: usize) -> String {
    let data: Vec<u8> = (0..bytes).map(|i| (i * 131 % 251) as u8).collect();
    base64::engine::general_purpose::STANDARD.encode(data)
}

#[test]
fn every_place_of_media_is_found() {
    let data = base64(1000);
    let url = |media_type: &str| format!("data:{media_type};base64,{data}");
    let cases = [
        (
            "chat image",
            json!([{"type": "image_url", "image_url": {"url": url("image/png"), "detail": "low"}}]),
            "image/png",
        ),
        ("responses image", json!([{"type": "input_image", "image_url": url("image/jpeg")}]), "image/jpeg"),
        (
            "chat audio",
            json!([{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]),
            "audio/wav",
        ),
        (
            "anthropic",
            json!([{"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": data}}]),
            "image/webp",
        ),
        (
            "anthropic, data first",
            json!([{"type": "document", "source": {"data": data, "media_type": "application/pdf", "type": "base64"}}]),
            "application/pdf",
        ),
        (
            "otel blob",
            json!([{"role": "user", "parts": [{"type": "blob", "modality": "image", "mime_type": "image/png", "content": data}]}]),
            "image/png",
        ),
        (
            "chat file",
            json!([{"type": "file", "file": {"filename": "a.pdf", "file_data": url("application/pdf")}}]),
            "application/pdf",
        ),
        (
            "gemini",
            json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}]}),
            "image/png",
        ),
        ("generated image", json!({"data": [{"b64_json": data}]}), "image/png"),
        (
            "bedrock",
            json!({"image": {"format": "png", "source": {"bytes": data}}}),
            "application/octet-stream",
        ),
        ("vercel", json!([{"type": "image", "image": data, "mediaType": "image/gif"}]), "image/gif"),
    ];
    for (name, body, media_type) in cases {
        let given = body.to_string();
        assert!(probe(&given), "{name}");
        let out = strip(&given).unwrap_or_else(|| panic!("{name}: nothing stripped"));
        let marker = format!("[media removed: {media_type}, 1000 bytes]");
        assert_eq!(out, given.replace(&url(media_type), &marker).replace(&data, &marker), "{name}");
        let _: Json = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(strip(&out), None, "{name}: markers stay");
    }
}

#[test]
fn text_and_remote_urls_stay() {
    let long_word = "x".repeat(4000);
    for given in [
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]).to_string(),
        json!([{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]).to_string(),
        json!([{"role": "user", "content": long_word}]).to_string(),
        json!([{"role": "user", "content": "helloworld", "format": "markdown"}]).to_string(),
        json!({"data": "helloworld", "source": {"data": "wikipedia"}}).to_string(),
        json!({"image": "my-logo-1234", "type": "image"}).to_string(),
        "what does data:text/plain;base64, mean?".to_owned(),
        "base64 is an encoding, 64 digits".to_owned(),
        long_word.clone(),
        String::new(),
    ] {
        assert_eq!(strip(&given), None, "{}", given.get(..60).unwrap_or(&given));
    }
}

#[test]
fn data_urls_in_plain_text_and_in_escaped_json() {
    let data = base64(300);
    let plain =
        format!("look: data:image/png;base64,{data} and data:image/svg+xml;charset=utf-8;base64,{data}.");
    let expected =
        "look: [media removed: image/png, 300 bytes] and [media removed: image/svg+xml, 300 bytes].";
    assert_eq!(strip(&plain).as_deref(), Some(expected));
    let upper = format!("DATA:IMAGE/PNG;base64,{data}");
    assert_eq!(strip(&upper).as_deref(), Some("[media removed: IMAGE/PNG, 300 bytes]"));
    // PHP escapes slashes.
    let escaped = format!(r#"{{"url":"data:image\/png;base64,{}"}}"#, data.replace('/', "\\/"));
    assert_eq!(strip(&escaped).as_deref(), Some(r#"{"url":"[media removed: image/png, 300 bytes]"}"#));
    // JSON inside of a JSON string: bare base64 is found there too.
    let inner = json!([{"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}]).to_string();
    let outer = json!({"arguments": inner}).to_string();
    let out = strip(&outer).expect("nested payload");
    let read: Json = serde_json::from_str(&out).expect("still JSON");
    let read: Json = serde_json::from_str(read["arguments"].as_str().expect("text")).expect("still JSON");
    assert_eq!(read[0]["input_audio"]["data"], "[media removed: audio/mp3, 300 bytes]");
    // Wrapped at 76 columns.
    let wrapped: Vec<&str> =
        data.as_bytes().chunks(76).map(|c| std::str::from_utf8(c).expect("ascii")).collect();
    let given = format!("data:image/png;base64,{}\n\nbye", wrapped.join("\n"));
    assert_eq!(strip(&given).as_deref(), Some("[media removed: image/png, 300 bytes]\n\nbye"));
}

#[test]
fn only_content_is_looked_at() {
    let url = format!("data:image/png;base64,{}", base64(300));
    let verdict = |key: &str| StripMedia.attribute(Place::Span, key, &Value::Str(&url));
    let marker = Verdict::ReplaceStr("[media removed: image/png, 300 bytes]".into());
    assert_eq!(verdict("gen_ai.prompt"), marker);
    assert_eq!(verdict("my.own.attachment"), marker);
    assert_eq!(verdict("trace.metadata.avatar"), Verdict::Keep);
    assert_eq!(StripMedia.attribute(Place::Span, "gen_ai.prompt", &Value::Str("hi")), Verdict::Keep);
}

#[test]
fn structured_values_and_bytes() {
    let part = OwnedValue::Map(vec![
        ("type".into(), text("blob")),
        ("mime_type".into(), text("image/png")),
        ("content".into(), OwnedValue::Bytes(vec![1; 500])),
    ]);
    let message =
        OwnedValue::Map(vec![("role".into(), text("user")), ("parts".into(), OwnedValue::Array(vec![part]))]);
    let plain = OwnedValue::Array(vec![text("just words")]);
    let given = one(vec![
        ("gen_ai.input.messages", OwnedValue::Array(vec![message])),
        ("gen_ai.output.messages", plain),
        ("user.id", text("u")),
    ]);
    let mut out = Vec::new();
    select(&given, &SpanSet::all(1), Some(&StripMedia), &mut out);
    let read = Traces::index(out.into(), &Default::default()).expect("valid");
    let input = read.span(0).attribute("gen_ai.input.messages").expect("kept");
    let input: Json = serde_json::from_str(input.as_str().expect("JSON text now")).expect("JSON");
    assert_eq!(input[0]["parts"][0]["content"], "[media removed: application/octet-stream, 500 bytes]");
    assert!(matches!(read.span(0).attribute("gen_ai.output.messages"), Some(Value::Array(_))));
    assert_eq!(read.span(0).attribute("user.id").and_then(|v| v.as_str()), Some("u"));
}

proptest! {
    #[test]
    fn any_text_is_survived(given in "[\\x00-\\x7fäé]{0,300}", cut in 0usize..300) {
        let _ = probe(&given);
        let _ = strip(&given);
        let body = json!([{"type": "image", "source": {"type": "base64", "media_type": given, "data": "QUJDRA=="}},
            {"image_url": format!("data:{given};base64,QUJDREVG")}]).to_string();
        if let Some(out) = strip(&body) {
            prop_assert!(serde_json::from_str::<Json>(&out).is_ok(), "{out}");
        }
        let mut end = cut.min(body.len());
        while !body.is_char_boundary(end) {
            end -= 1;
        }
        let _ = strip(&body[..end]);
    }

    #[test]
    fn a_long_payload_is_always_probed(before in "[a-z ]{0,200}", bytes in 192usize..900) {
        let text = format!("{before} {}", base64(bytes));
        prop_assert!(probe(&text));
    }
}
