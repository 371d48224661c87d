//! The neutral GenAI attributes, for receivers that read no other dialect: what a span says in OpenInference,
//! OpenLLMetry or Vercel words is added in OpenTelemetry's and OpenRouter's, as far as it is not there.

use tracecast_genai::Generation;
use tracecast_otlp::SpanView;
use tracecast_otlp::write::{OwnedValue, SPAN_ATTRIBUTES, append_attribute};

/// Appends attributes to a span, never one whose key it has.
pub(crate) struct Additions<'s, 'o> {
    span: SpanView<'s>,
    out: &'o mut Vec<u8>,
}

impl<'s, 'o> Additions<'s, 'o> {
    pub(crate) fn to(span: SpanView<'s>, out: &'o mut Vec<u8>) -> Additions<'s, 'o> {
        Additions { span, out }
    }

    pub(crate) fn add(&mut self, key: &str, value: impl Into<OwnedValue>) {
        if self.span.attribute(key).is_none() {
            append_attribute(SPAN_ATTRIBUTES, key, &value.into(), self.out);
        }
    }

    pub(crate) fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(key, value);
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
    let usage = generation.usage();
    to.count("gen_ai.usage.input_tokens", usage.input);
    to.count("gen_ai.usage.output_tokens", usage.output);
    let sum = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
    to.count("gen_ai.usage.total_tokens", usage.total.or((sum > 0).then_some(sum)));
    to.count("gen_ai.usage.cache_read.input_tokens", usage.cached);
    to.count("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
    to.number("gen_ai.usage.cost", generation.cost().total);
    to.text("gen_ai.response.finish_reason", generation.finish_reason().as_deref());
}
