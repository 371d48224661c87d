//! Spans of LLM requests as applications send them, reproducible from a seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tracecast_otlp::write::{OwnedValue, SpanBuilder, resource_spans};
use tracecast_otlp::{SpanId, TraceId};

const MODELS: [(&str, &str, &str, f64, f64); 5] = [
    ("openai/gpt-4o", "openai", "OpenAI", 2.5e-6, 10e-6),
    ("openai/gpt-4o-mini", "openai", "OpenAI", 0.15e-6, 0.6e-6),
    ("anthropic/claude-sonnet-4", "anthropic", "Anthropic", 3e-6, 15e-6),
    ("google/gemini-2.5-flash", "gcp.gemini", "Google AI Studio", 0.3e-6, 2.5e-6),
    ("meta-llama/llama-3.3-70b-instruct", "groq", "Groq", 0.6e-6, 0.8e-6),
];

const QUESTIONS: [&str; 8] = [
    "How do I rotate the signing key without logging everybody out?",
    "Summarise the attached incident report in three sentences.",
    "Write a polite reply to a customer whose parcel is two days late.",
    "Which index would make this query faster, and why?",
    "Translate the release notes into French and keep the headings.",
    "What changed between the two versions of the contract?",
    "Suggest five names for a bakery next to a railway station.",
    "Explain to a new colleague how our billing period is computed.",
];

const WORDS: [&str; 48] = [
    "the",
    "request",
    "was",
    "answered",
    "by",
    "a",
    "service",
    "that",
    "keeps",
    "every",
    "event",
    "in",
    "one",
    "log",
    "before",
    "it",
    "says",
    "yes",
    "and",
    "sends",
    "them",
    "on",
    "when",
    "their",
    "destination",
    "is",
    "ready",
    "again",
    "because",
    "nothing",
    "should",
    "be",
    "lost",
    "between",
    "two",
    "systems",
    "which",
    "do",
    "not",
    "know",
    "each",
    "other",
    "so",
    "well",
    "as",
    "they",
    "think",
    "however",
];

/// Plain prose of about `bytes` bytes, different for every call.
pub fn prose(rng: &mut StdRng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(WORDS.choose(rng).copied().unwrap_or("and"));
        // Numbers and names keep the text from being more compressible than what people write.
        if rng.random_ratio(1, 6) {
            text.push_str(&format!(" {}", rng.random_range(0..100_000)));
        }
    }
    text.truncate(bytes);
    text
}

/// What the story's application knows about one of its LLM calls.
#[derive(Clone, Debug)]
pub struct Call {
    /// Model slug.
    pub model: &'static str,
    /// OTel provider name.
    pub provider: &'static str,
    /// Display name of the provider.
    pub provider_name: &'static str,
    /// End user.
    pub user: String,
    /// Conversation.
    pub session: String,
    /// The user's message.
    pub prompt: String,
    /// The model's answer; `None` if the call failed.
    pub answer: Option<String>,
    /// Tokens in and out.
    pub tokens: (i64, i64),
    /// USD in and out.
    pub cost: (f64, f64),
    /// Unix nanoseconds, start and end.
    pub times: (u64, u64),
}

/// A small company's LLM traffic: a few users, each with a few conversations.
#[derive(Debug)]
pub struct Story {
    rng: StdRng,
    sessions: Vec<(String, String)>,
}

impl Story {
    /// The same seed tells the same story.
    pub fn new(seed: u64) -> Story {
        let mut rng = StdRng::seed_from_u64(seed);
        let users = ["ada", "grace", "alan", "edsger", "barbara", "tony"];
        let sessions = (0..24)
            .map(|i| {
                let user = users[i % users.len()].to_owned();
                (user, format!("conv-{:08x}", rng.next_u32()))
            })
            .collect();
        Story { rng, sessions }
    }

    /// The next call, ending at `end_unix_nano`. About one in twenty fails.
    pub fn call(&mut self, end_unix_nano: u64) -> Call {
        let rng = &mut self.rng;
        let (model, provider, provider_name, price_in, price_out) =
            MODELS.choose(rng).copied().unwrap_or(MODELS[0]);
        let (user, session) = self.sessions.choose(rng).cloned().unwrap_or_default();
        let question = QUESTIONS.choose(rng).copied().unwrap_or(QUESTIONS[0]);
        let context_bytes = rng.random_range(200..3000);
        let prompt = format!("{question}\n\n{}", prose(rng, context_bytes));
        let answer_bytes = rng.random_range(80..1500);
        let answer = (!rng.random_ratio(1, 20)).then(|| prose(rng, answer_bytes));
        let tokens_in = (prompt.len() / 4) as i64;
        let tokens_out = answer.as_ref().map_or(0, |a| (a.len() / 4) as i64);
        let took = rng.random_range(300_000_000..4_000_000_000u64);
        Call {
            model,
            provider,
            provider_name,
            user,
            session,
            prompt,
            answer,
            tokens: (tokens_in, tokens_out),
            cost: (tokens_in as f64 * price_in, tokens_out as f64 * price_out),
            times: (end_unix_nano.saturating_sub(took), end_unix_nano),
        }
    }

    /// Fresh ids for a trace and a span.
    pub fn ids(&mut self) -> (TraceId, SpanId) {
        let mut trace = [0u8; 16];
        let mut span = [0u8; 8];
        self.rng.fill_bytes(&mut trace);
        self.rng.fill_bytes(&mut span);
        trace[0] |= 1;
        span[0] |= 1;
        (trace, span)
    }
}

impl Call {
    /// The generation span an OTel GenAI instrumentation would make of it.
    pub fn span(&self, trace_id: TraceId, span_id: SpanId) -> SpanBuilder {
        let text = |s: &str| OwnedValue::Str(s.to_owned());
        let input =
            serde_json::json!([{ "role": "user", "parts": [{ "type": "text", "content": self.prompt }] }]);
        let mut attributes: Vec<(String, OwnedValue)> = vec![
            ("gen_ai.operation.name".into(), text("chat")),
            ("gen_ai.provider.name".into(), text(self.provider)),
            ("gen_ai.request.model".into(), text(self.model)),
            ("gen_ai.response.model".into(), text(self.model)),
            ("gen_ai.request.temperature".into(), OwnedValue::Double(0.7)),
            ("gen_ai.request.max_tokens".into(), OwnedValue::Int(2048)),
            ("gen_ai.usage.input_tokens".into(), OwnedValue::Int(self.tokens.0)),
            ("gen_ai.usage.output_tokens".into(), OwnedValue::Int(self.tokens.1)),
            ("gen_ai.usage.cost".into(), OwnedValue::Double(self.cost.0 + self.cost.1)),
            ("user.id".into(), text(&self.user)),
            ("session.id".into(), text(&self.session)),
            ("gen_ai.input.messages".into(), OwnedValue::Str(input.to_string())),
        ];
        let (status_code, status_message) = match &self.answer {
            Some(answer) => {
                let output = serde_json::json!([{
                    "role": "assistant",
                    "parts": [{ "type": "text", "content": answer }],
                    "finish_reason": "stop",
                }]);
                attributes.push(("gen_ai.output.messages".into(), OwnedValue::Str(output.to_string())));
                attributes
                    .push(("gen_ai.response.finish_reasons".into(), OwnedValue::Array(vec![text("stop")])));
                (1, String::new())
            }
            None => {
                attributes.push(("error.type".into(), text("rate_limit_exceeded")));
                (2, "the provider is over capacity".to_owned())
            }
        };
        SpanBuilder {
            trace_id,
            span_id,
            name: format!("chat {}", self.model),
            kind: 3,
            start_unix_nano: self.times.0,
            end_unix_nano: self.times.1,
            attributes,
            status_code,
            status_message,
            ..SpanBuilder::default()
        }
    }

    /// The same call as a `/v1/events` record.
    pub fn event(&self, id: &str) -> serde_json::Value {
        let mut event = serde_json::json!({
            "id": id,
            "model": self.model,
            "provider": self.provider_name,
            "user": self.user,
            "session_id": self.session,
            "start_time": self.times.0,
            "end_time": self.times.1,
            "messages": [{ "role": "user", "content": self.prompt }],
            "usage": { "prompt_tokens": self.tokens.0, "completion_tokens": self.tokens.1 },
            "cost": { "input": self.cost.0, "output": self.cost.1, "total": self.cost.0 + self.cost.1 },
            "metadata": { "feature": "support-assistant" },
        });
        match &self.answer {
            Some(answer) => event["output"] = serde_json::json!(answer),
            None => {
                event["error"] =
                    serde_json::json!({ "type": "rate_limit_exceeded", "message": "over capacity" })
            }
        }
        event
    }
}

/// A request body whose ids and times are patched in place: making the next one costs a copy.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// Offsets of the 16-byte trace ids, the 8-byte span ids, and the 8-byte start and end times.
    trace_ids: Vec<usize>,
    span_ids: Vec<usize>,
    times: Vec<usize>,
}

/// The last eight bytes of a span id tell the run and the span's number in it.
pub fn span_id(run: u32, number: u64) -> SpanId {
    ((u64::from(run | 1) << 40) | (number & 0xff_ffff_ffff)).to_be_bytes()
}

impl Template {
    /// A request of `spans` spans, each with 20 attributes and `body_bytes` of prompt and completion.
    pub fn new(seed: u64, spans: usize, body_bytes: usize) -> Template {
        const TRACE: TraceId = *b"\xf7TRACEIDPLACE\xf7\xf6\xf5";
        const SPAN: SpanId = *b"\xf7SPANID\xf6";
        const START: u64 = 0xf7f6_f5f4_5354_4152;
        const END: u64 = 0xf7f6_f5f4_454e_4421;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut story = Story::new(seed);
        let builders: Vec<SpanBuilder> = (0..spans)
            .map(|_| {
                let mut call = story.call(0);
                call.prompt = prose(&mut rng, body_bytes * 3 / 4);
                call.answer = Some(prose(&mut rng, body_bytes / 4));
                let mut span = call.span(TRACE, SPAN);
                span.start_unix_nano = START;
                span.end_unix_nano = END;
                for (key, value) in [
                    ("server.address", OwnedValue::Str("api.example.com".into())),
                    ("server.port", OwnedValue::Int(443)),
                    ("gen_ai.response.id", OwnedValue::Str(format!("gen-{:016x}", rng.next_u64()))),
                    ("gen_ai.usage.cache_read.input_tokens", OwnedValue::Int(0)),
                    ("trace.metadata.feature", OwnedValue::Str("load".into())),
                    ("trace.metadata.tenant", OwnedValue::Int(rng.random_range(0..100))),
                ] {
                    span.attributes.push((key.to_owned(), value));
                }
                span
            })
            .collect();
        let resource = [
            ("service.name".to_owned(), OwnedValue::Str("loadkit".into())),
            ("service.version".to_owned(), OwnedValue::Str("1.0.0".into())),
        ];
        let mut bytes = Vec::new();
        resource_spans(&resource, "loadkit", "1.0.0", &builders, &mut bytes);
        let find = |needle: &[u8]| -> Vec<usize> {
            bytes.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle).map(|(i, _)| i).collect()
        };
        let trace_ids = find(&TRACE);
        let span_ids = find(&SPAN);
        let starts = find(&START.to_le_bytes());
        let ends = find(&END.to_le_bytes());
        let times = starts.into_iter().zip(ends).flat_map(|(s, e)| [s, e]).collect();
        Template { bytes, trace_ids, span_ids, times }
    }

    /// Spans of a request.
    pub fn spans(&self) -> usize {
        self.span_ids.len()
    }

    /// Bytes of a request.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// A request whose spans carry the numbers from `first` on. Each request is a trace of its own.
    pub fn request(&self, run: u32, first: u64, end_unix_nano: u64) -> Vec<u8> {
        let mut out = self.bytes.clone();
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let mut trace = [0u8; 16];
        // Spread, so that what hashes or samples by trace id sees ids as random as real ones.
        let spread = first.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(run));
        trace[..8].copy_from_slice(&spread.to_be_bytes());
        trace[8..].copy_from_slice(&span_id(run, first));
        for at in &self.trace_ids {
            put(*at, &trace);
        }
        for (i, at) in self.span_ids.iter().enumerate() {
            put(*at, &span_id(run, first + i as u64));
        }
        for pair in self.times.chunks(2) {
            put(pair[0], &(end_unix_nano - 1_500_000_000).to_le_bytes());
            if let Some(end) = pair.get(1) {
                put(*end, &end_unix_nano.to_le_bytes());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tracecast_otlp::{Limits, Traces};

    #[test]
    fn a_patched_template_is_a_valid_request_with_the_numbers_asked_for() {
        let template = Template::new(7, 3, 1000);
        let bytes = template.request(42, 100, 2_000_000_000);
        let traces = Traces::index(Bytes::from(bytes), &Limits::default()).unwrap();
        assert_eq!(traces.len(), 3);
        assert!(traces.rejected().is_empty());
        for (i, span) in traces.spans().enumerate() {
            assert_eq!(span.span_id(), span_id(42, 100 + i as u64));
            assert_eq!(span.end_unix_nano(), 2_000_000_000);
            assert_eq!(span.attributes().count(), 20);
        }
    }

    #[test]
    fn the_same_seed_tells_the_same_story() {
        let (mut a, mut b) = (Story::new(5), Story::new(5));
        for _ in 0..20 {
            assert_eq!(a.call(9_000_000_000).event("x"), b.call(9_000_000_000).event("x"));
        }
    }
}
