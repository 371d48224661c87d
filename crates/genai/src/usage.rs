//! Tokens and money: read from span attributes and from the JSON dialects of the vendors.

use serde_json::Value as Json;
use tracecast_otlp::Value;

use crate::keys;
use crate::messages::field;
use crate::view::Generation;

/// Token counts. `input` includes cached and cache-written tokens, `output` includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// As given, else input + output.
    pub total: Option<u64>,
    /// Read from the provider's cache.
    pub cached: Option<u64>,
    /// Written to the provider's cache.
    pub cache_write: Option<u64>,
    /// Spent on thinking.
    pub reasoning: Option<u64>,
}

/// Money in USD.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// For the prompt.
    pub input: Option<f64>,
    /// For the answer.
    pub output: Option<f64>,
    /// The charge; may exceed input + output (fees, tools). As given, else their sum.
    pub total: Option<f64>,
}

impl Usage {
    /// True if no count is known.
    pub fn is_empty(&self) -> bool {
        *self == Usage::default()
    }

    /// Makes the counts inclusive and fills in the total.
    ///
    /// Sources that report cached tokens beside the input (Anthropic's way) are told by their cache being
    /// larger than the input it would be part of.
    fn completed(mut self) -> Usage {
        let cache = self.cached.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        if let Some(input) = self.input
            && cache > input
        {
            self.input = Some(input.saturating_add(cache));
        }
        if let (Some(input), Some(output)) = (self.input, self.output) {
            let sum = input.saturating_add(output);
            self.total = Some(self.total.map_or(sum, |total| if cache > 0 { total.max(sum) } else { total }));
        }
        self
    }

    /// The `usage` object of a response: OpenAI chat, Responses, Anthropic, Gemini or plain names.
    ///
    /// `Err` is the path and what is wrong there.
    pub(crate) fn from_json(usage: &Json) -> Result<Usage, (String, String)> {
        let Json::Object(_) = usage else {
            return Err((String::new(), format!("expected an object, got {}", kind_of(usage))));
        };
        let count = |names: &[&str]| count_at(usage, names);
        let mut read = Usage {
            input: count(&[
                "prompt_tokens",
                "input_tokens",
                "promptTokenCount",
                "inputTokens",
                "promptTokens",
                "input",
            ])?,
            output: count(&[
                "completion_tokens",
                "output_tokens",
                "candidatesTokenCount",
                "outputTokens",
                "completionTokens",
                "output",
            ])?,
            total: count(&["total_tokens", "totalTokenCount", "totalTokens", "total"])?,
            cached: count(&["cached_tokens", "cachedContentTokenCount", "cachedInputTokens", "cached"])?,
            cache_write: count(&["cache_write_tokens", "cache_write"])?,
            reasoning: count(&["reasoning_tokens", "thoughtsTokenCount", "reasoningTokens", "reasoning"])?,
        };
        for details in ["prompt_tokens_details", "input_tokens_details"] {
            let Some(object) = field(usage, &[details]) else { continue };
            let at = |(path, text): (String, String)| (format!("{details}.{path}"), text);
            read.cached = read.cached.or(count_at(object, &["cached_tokens"]).map_err(at)?);
            read.cache_write =
                read.cache_write
                    .or(count_at(object, &["cache_write_tokens", "cache_creation_tokens"]).map_err(at)?);
        }
        for details in ["completion_tokens_details", "output_tokens_details"] {
            let Some(object) = field(usage, &[details]) else { continue };
            let at = |(path, text): (String, String)| (format!("{details}.{path}"), text);
            read.reasoning = read.reasoning.or(count_at(object, &["reasoning_tokens"]).map_err(at)?);
        }
        // Anthropic counts the cache beside the input, Gemini the thoughts beside the answer.
        let cache_read = count(&["cache_read_input_tokens"])?;
        let cache_made = count(&["cache_creation_input_tokens"])?;
        if cache_read.is_some() || cache_made.is_some() {
            let beside = cache_read.unwrap_or(0).saturating_add(cache_made.unwrap_or(0));
            if field(usage, &["prompt_tokens"]).is_none() {
                read.input = Some(read.input.unwrap_or(0).saturating_add(beside));
            }
            read.cached = read.cached.or(cache_read);
            read.cache_write = read.cache_write.or(cache_made);
        }
        if let (Some(thoughts), Some(output)) = (count(&["thoughtsTokenCount"])?, read.output) {
            read.output = Some(output.saturating_add(thoughts));
        }
        Ok(read.completed())
    }
}

impl Cost {
    fn completed(mut self) -> Cost {
        if let (None, Some(input), Some(output)) = (self.total, self.input, self.output) {
            self.total = Some(input + output);
        }
        self
    }

    /// USD as a number (or numeric text) or `{input, output, total}`; `Err` is the path and what is wrong.
    pub(crate) fn from_json(cost: &Json) -> Result<Cost, (String, String)> {
        if let Json::Object(_) = cost {
            let money = |names: &[&str]| money_at(cost, names);
            return Ok(Cost {
                input: money(&["input", "prompt", "input_cost"])?,
                output: money(&["output", "completion", "output_cost"])?,
                total: money(&["total", "total_cost"])?,
            }
            .completed());
        }
        let total = amount(cost).ok_or_else(|| {
            (
                String::new(),
                format!("expected a USD amount of 0 or more, or an object, got {}", kind_of(cost)),
            )
        })?;
        Ok(Cost { total: Some(total), ..Cost::default() })
    }
}

/// The name of a JSON value's kind, for messages that must not quote the value.
pub(crate) fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

fn count_at(object: &Json, names: &[&str]) -> Result<Option<u64>, (String, String)> {
    named(object, names, "a whole number of 0 or more", |value| match value {
        Json::Number(n) => n.as_u64().or_else(|| whole(n.as_f64()?)),
        Json::String(text) => count_of_text(text),
        _ => None,
    })
}

fn money_at(object: &Json, names: &[&str]) -> Result<Option<f64>, (String, String)> {
    named(object, names, "a USD amount of 0 or more", amount)
}

/// The first of `names` that is there, read by `read`.
fn named<T>(
    object: &Json,
    names: &[&str],
    expected: &str,
    read: impl Fn(&Json) -> Option<T>,
) -> Result<Option<T>, (String, String)> {
    for name in names {
        match object.get(name) {
            None | Some(Json::Null) => {}
            Some(value) => {
                let wrong = || (name.to_string(), format!("expected {expected}, got {}", described(value)));
                return read(value).map(Some).ok_or_else(wrong);
            }
        }
    }
    Ok(None)
}

/// Numbers may be quoted in messages, texts may be private.
fn described(value: &Json) -> String {
    match value {
        Json::Number(n) => n.to_string(),
        other => kind_of(other).to_owned(),
    }
}

fn amount(value: &Json) -> Option<f64> {
    let amount = match value {
        Json::Number(n) => n.as_f64()?,
        Json::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (amount.is_finite() && amount >= 0.0).then_some(amount)
}

fn whole(number: f64) -> Option<u64> {
    (number.is_finite() && (0.0..1.8e19).contains(&number)).then_some(number.round() as u64)
}

fn count_of_text(text: &str) -> Option<u64> {
    let text = text.trim();
    text.parse().ok().or_else(|| whole(text.parse().ok()?))
}

/// A count that came as int, double or numeric text.
pub(crate) fn count_of(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::Int(n) => u64::try_from(*n).ok(),
        Value::Double(n) => whole(*n),
        Value::Str(text) => count_of_text(text),
        _ => None,
    }
}

/// A number that came as int, double or numeric text.
pub(crate) fn number_of(value: &Value<'_>) -> Option<f64> {
    let number = match value {
        Value::Int(n) => *n as f64,
        Value::Double(n) => *n,
        Value::Str(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

impl<'a> Generation<'a> {
    /// Tokens, made inclusive (see [`Usage`]).
    pub fn usage(&self) -> Usage {
        let count = |keys: keys::Keys| self.span().first(keys, |value| count_of(&value));
        let read = Usage {
            input: count(keys::INPUT_TOKENS),
            output: count(keys::OUTPUT_TOKENS),
            total: count(keys::TOTAL_TOKENS),
            cached: count(keys::CACHED_TOKENS),
            cache_write: count(keys::CACHE_WRITE_TOKENS),
            reasoning: count(keys::REASONING_TOKENS),
        };
        if read.is_empty() {
            return self.object(keys::USAGE_DETAILS).map(|d| disjoint_usage(&d)).unwrap_or_default();
        }
        let mut usage = read.completed();
        // An embedding answers with no tokens: what went in is all there is.
        if usage.total.is_none() && usage.output.is_none() && self.operation() == Some("embeddings") {
            usage.total = usage.input;
        }
        usage
    }

    /// Money in USD.
    pub fn cost(&self) -> Cost {
        let money = |keys: keys::Keys| self.span().first(keys, |value| number_of(&value));
        let mut read = Cost {
            input: money(keys::INPUT_COST),
            output: money(keys::OUTPUT_COST),
            total: money(keys::TOTAL_COST),
        };
        if read == Cost::default()
            && let Some(details) = self.object(keys::COST_DETAILS)
        {
            read = Cost::from_json(&details).unwrap_or_default();
        }
        if read == Cost::default()
            && let Some(vendor) = self.object(keys::PROVIDER_METADATA)
        {
            read.total = vendor.pointer("/gateway/cost").and_then(amount);
        }
        read.completed()
    }

    /// The charge alone, in USD: what [`Generation::cost`] says as `total`, for fewer look-ups.
    pub fn total_cost(&self) -> Option<f64> {
        let given = self.span().first(keys::TOTAL_COST, |value| number_of(&value));
        given.or_else(|| self.cost().total)
    }

    /// Whether the provider was paid with a key of the caller's own ("bring your own key"): as the span
    /// says, else as the last provider response it lists.
    pub fn is_byok(&self) -> bool {
        let said = self.span().first(keys::BYOK, |value| match value {
            Value::Bool(is_byok) => Some(is_byok),
            Value::Str(text) => text.parse().ok(),
            _ => None,
        });
        said.unwrap_or_else(|| {
            let Some(text) = self.str(keys::PROVIDER_RESPONSES) else { return false };
            // Almost no list has it: a search is cheaper than a parse.
            text.contains("true") && last_is_byok(text).unwrap_or(false)
        })
    }

    /// USD per token of input and of output.
    pub fn unit_prices(&self) -> (Option<f64>, Option<f64>) {
        let price = |keys: keys::Keys| self.span().first(keys, |value| number_of(&value));
        (price(keys::INPUT_UNIT_PRICE), price(keys::OUTPUT_UNIT_PRICE))
    }
}

/// `is_byok` of the last of the provider responses that has it.
fn last_is_byok(responses: &str) -> Option<bool> {
    let responses: Vec<Json> = serde_json::from_str(responses).ok()?;
    responses.iter().rev().find_map(|response| response.get("is_byok")?.as_bool())
}

/// Langfuse's details: `input`, `input_cached_tokens`, ... are disjoint, so the whole is their sum. With
/// the names of OpenAI they mean what OpenAI means.
fn disjoint_usage(details: &Json) -> Usage {
    let Some(object) = details.as_object() else { return Usage::default() };
    if !object.contains_key("input") && !object.contains_key("output") {
        return Usage::from_json(details).unwrap_or_default();
    }
    let number = |value: &Json| value.as_u64().or_else(|| whole(value.as_f64()?));
    let sum = |prefix: &str, extra: &[&str]| {
        let counts = object
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) || extra.contains(&key.as_str()))
            .filter_map(|(_, value)| number(value));
        counts.fold(None, |sum: Option<u64>, n| Some(sum.unwrap_or(0).saturating_add(n)))
    };
    let any = |names: &[&str]| names.iter().find_map(|name| number(object.get(*name)?));
    Usage {
        input: sum("input", &["cache_read_input_tokens", "cache_creation_input_tokens"]),
        output: sum("output", &[]),
        total: any(&["total"]),
        cached: any(&["input_cached_tokens", "input_cache_read", "cache_read_input_tokens"]),
        cache_write: any(&["input_cache_creation", "cache_creation_input_tokens"]),
        reasoning: any(&["output_reasoning_tokens", "output_reasoning"]),
    }
    .completed()
}
