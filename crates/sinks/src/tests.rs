//! What holds for all kinds: registration, and privacy.

use serde_json::json;
use tracecast_destination::Kind;
use tracecast_otlp::write::OwnedValue;

use crate::build;
use crate::testing::*;

#[test]
fn every_kind_has_an_adapter_with_bounds() {
    let clients = clients();
    for kind in Kind::ALL {
        let limits = build(&destination_at(kind, "http://h"), &clients).unwrap().limits();
        assert!(limits.spans_max > 0 && limits.bytes_max > 0 && limits.concurrency_max > 0, "{kind:?}");
    }
}

/// Content in every place it can be, each with a canary of its own; and what is not content.
fn canaries() -> (tracecast_otlp::write::SpanBuilder, Vec<String>) {
    let mut planted = Vec::new();
    let mut canary = |place: &str| {
        let text = format!("canary-{place}");
        planted.push(text.clone());
        text
    };
    let message = |text: String| json!({"messages": [{"role": "user", "content": text}]}).to_string();
    let mut span = generation(1);
    span.attributes.retain(|(key, _)| !matches!(key.as_str(), "gen_ai.prompt" | "gen_ai.completion"));
    let mut add = |key: &str, value: OwnedValue| span.attributes.push((key.to_owned(), value));
    add("gen_ai.prompt", message(canary("prompt")).into());
    add("gen_ai.completion", json!({"completion": canary("completion")}).to_string().into());
    for key in [
        "span.input",
        "span.output",
        "trace.input",
        "trace.output",
        "input.value",
        "output.value",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.call.arguments",
        "gen_ai.prompt.0.content",
        "llm.input_messages.0.message.content",
        "ai.prompt.messages",
        "ai.response.text",
        "traceloop.entity.input",
        "langfuse.observation.input",
        "langfuse.trace.output",
        "exception.message",
    ] {
        let text = message(canary(key));
        add(key, text.into());
    }
    let long = format!("{} {}", canary("unknown-long"), "x".repeat(2_000));
    add("vendor.unknown", long.into());
    let list = OwnedValue::Array(vec![canary("unknown-list").into()]);
    add("vendor.list", list);
    span.status_code = 2;
    span.status_message = canary("status");
    span.events.push((
        START,
        "exception".into(),
        attributes(&[
            ("exception.type", "RateLimitError".into()),
            ("exception.message", canary("exception-event").into()),
        ]),
    ));
    span.events.push((
        START,
        "gen_ai.user.message".into(),
        attributes(&[("content", canary("message-event").into())]),
    ));
    (span, planted)
}

#[test]
fn private_items_show_no_content_anywhere() {
    let clients = clients();
    let (span, planted) = canaries();
    for kind in Kind::ALL {
        let adapter = build(&destination_at(kind, "http://h"), &clients).unwrap();
        let show = |private: bool| {
            let mut item = item(1, std::slice::from_ref(&span));
            item.private = private;
            let previews = adapter.preview(&batch(vec![item]));
            assert!(!previews.is_empty());
            format!(
                "{}{:?}",
                previews
                    .iter()
                    .map(|preview| String::from_utf8_lossy(&preview.body).into_owned())
                    .collect::<String>(),
                previews
            )
        };
        assert!(show(false).contains("canary-"), "{kind:?} sends content at all");
        let private = show(true);
        for canary in &planted {
            assert!(!private.contains(canary), "{kind:?} shows {canary}");
        }
        // What is not content stays.
        for kept in ["user-1", "session-9", "claude-sonnet-4-20250514", "search"] {
            assert!(private.contains(kept), "{kind:?} lost {kept}");
        }
    }
}
