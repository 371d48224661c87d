//! The neutral GenAI attributes, for receivers that read no other dialect: what a span says in OpenInference,
//! OpenLLMetry or Vercel words is added in OpenTelemetry's and OpenRouter's, as far as it is not there.

use tracecast_genai::Generation;
use tracecast_otlp::write::{Edit, OwnedValue, Place, SPAN_ATTRIBUTES, Verdict, append_attribute};
use tracecast_otlp::{SpanView, Value};

use super::cut::{cut, is_over};

/// Appends attributes to a span, never one whose key it has.
pub(crate) struct Additions<'s, 'o> {
    span: SpanView<'s>,
    out: &'o mut Vec<u8>,
    chars_max: usize,
}

impl<'s, 'o> Additions<'s, 'o> {
    pub(crate) fn to(span: SpanView<'s>, out: &'o mut Vec<u8>) -> Additions<'s, 'o> {
        Additions { span, out, chars_max: usize::MAX }
    }

    /// Longer texts are cut.
    pub(crate) fn at_most(self, chars_max: usize) -> Additions<'s, 'o> {
        Additions { chars_max, ..self }
    }

    pub(crate) fn add(&mut self, key: &str, value: impl Into<OwnedValue>) {
        if self.lacks(key) {
            append_attribute(SPAN_ATTRIBUTES, key, &value.into(), self.out);
        }
    }

    /// For values that are not made for nothing.
    pub(crate) fn lacks(&self, key: &str) -> bool {
        self.span.attribute(key).is_none()
    }

    /// What the span says there.
    pub(crate) fn text_of(&self, key: &str) -> Option<&'s str> {
        self.span.attribute(key).and_then(|value| value.as_str())
    }

    pub(crate) fn text(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) if is_over(value, self.chars_max) => self.add(key, cut(value, self.chars_max)),
            Some(value) => self.add(key, value),
            None => {}
        }
    }

    pub(crate) fn count(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
            self.add(key, value);
        }
    }

    /// JSON knows no infinities, and receivers refuse them.
    pub(crate) fn number(&mut self, key: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.add(key, value);
        }
    }

    pub(crate) fn list(&mut self, key: &str, values: Vec<String>) {
        if !values.is_empty() {
            self.add(key, OwnedValue::Array(values.into_iter().map(OwnedValue::Str).collect()));
        }
    }
}

/// Keeps what a span says and adds to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adding {
    pub(crate) add: fn(&Generation<'_>, &mut Additions<'_, '_>),
    pub(crate) keep_events: bool,
}

impl Edit for Adding {
    fn attribute_by_key(&self, _: Place, _: &[u8]) -> Option<Verdict> {
        Some(Verdict::Keep)
    }

    fn attribute(&self, _: Place, _: &str, _: &Value<'_>) -> Verdict {
        Verdict::Keep
    }

    fn keep_event(&self, _: &str) -> bool {
        self.keep_events
    }

    fn extra_attributes(&self, span: SpanView<'_>, out: &mut Vec<u8>) {
        (self.add)(&Generation::new(span), &mut Additions::to(span, out));
    }
}

/// Who, which model, how many tokens, what cost: the attributes that dashboards are built on.
pub(crate) fn add(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    to.text("user.id", generation.user_id());
    to.text("session.id", generation.session_id());
    if !generation.is_generation() {
        return;
    }
    to.text("gen_ai.operation.name", generation.operation());
    // The older name is what dashboards of the day still group by.
    for key in ["gen_ai.provider.name", "gen_ai.system"] {
        to.text(key, generation.provider_slug().or(generation.provider_name()));
    }
    to.text("gen_ai.request.model", generation.model());
    to.text("gen_ai.response.model", generation.response_model());
    to.text("gen_ai.response.id", generation.response_id());
    let usage = generation.usage();
    to.count("gen_ai.usage.input_tokens", usage.input);
    to.count("gen_ai.usage.output_tokens", usage.output);
    let sum = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
    to.count("gen_ai.usage.total_tokens", usage.total.or((sum > 0).then_some(sum)));
    to.count("gen_ai.usage.cache_read.input_tokens", usage.cached);
    to.count("gen_ai.usage.cache_creation.input_tokens", usage.cache_write);
    to.count("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
    to.number("gen_ai.usage.cost", generation.cost().total);
    let seconds = generation.first_token_ms().map(|ms| ms / 1e3);
    to.number("gen_ai.response.time_to_first_chunk", seconds);
    if to.lacks("gen_ai.response.finish_reason") {
        to.text("gen_ai.response.finish_reason", generation.finish_reason().as_deref());
    }
}
