//! Requests as applications send them, small enough to check by eye.

use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};

/// A generation span with a prompt, an answer, usage and cost. `n` makes its ids: trace `n`, span `n`.
pub fn generation(n: u64, prompt: &str) -> SpanBuilder {
    let text = |s: &str| OwnedValue::from(s);
    let mut trace_id = [0x77; 16];
    trace_id[8..].copy_from_slice(&n.to_be_bytes());
    SpanBuilder {
        trace_id,
        span_id: (n | 1 << 60).to_be_bytes(),
        name: "chat gpt-4o".into(),
        kind: 3,
        start_unix_nano: 1_760_000_000_000_000_000,
        end_unix_nano: 1_760_000_001_500_000_000,
        attributes: vec![
            ("gen_ai.operation.name".into(), text("chat")),
            ("gen_ai.provider.name".into(), text("openai")),
            ("gen_ai.request.model".into(), text("gpt-4o")),
            ("gen_ai.usage.input_tokens".into(), OwnedValue::Int(40)),
            ("gen_ai.usage.output_tokens".into(), OwnedValue::Int(12)),
            ("gen_ai.usage.cost".into(), OwnedValue::Double(0.00125)),
            ("user.id".into(), text("ada")),
            ("session.id".into(), text(&format!("session-{}", n / 10))),
            (
                "gen_ai.prompt".into(),
                text(&format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}")),
            ),
            ("gen_ai.completion".into(), text(&format!("{{\"completion\":\"answer to {prompt}\"}}"))),
            ("trace.metadata.feature".into(), text("tests")),
        ],
        status_code: 1,
        ..SpanBuilder::default()
    }
}

/// One OTLP request of these spans.
pub fn request(spans: &[SpanBuilder]) -> Vec<u8> {
    let mut out = Vec::new();
    resource_spans(&[("service.name".into(), OwnedValue::from("app"))], "tests", "1", spans, &mut out);
    out
}

/// The hex span id of `generation(n, _)`.
pub fn span_id(n: u64) -> String {
    tracecast_otlp::hex(&(n | 1 << 60).to_be_bytes())
}
