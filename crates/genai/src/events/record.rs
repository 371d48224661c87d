//! One record: the fields of design 3.6 with their types, from a JSON object.

use serde_json::{Map, Value};

use super::response::{self, Failure, failure, failure_in, parsed, with_parts};
use super::{Fault, credentials, time};
use crate::content::looks_like_content;
use crate::messages::{field, str_of};
use crate::usage::{Cost, Usage, kind_of};

/// A provider is tried a handful of times; the bound keeps small bodies from becoming many spans.
const ATTEMPTS_MAX: usize = 64;

/// Keys beyond this would make a span that the rest of the gateway refuses.
const METADATA_MAX: usize = 1024;

/// One LLM request.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub id: Option<String>,
    pub start: Option<u64>,
    pub end: Option<u64>,
    pub first_token: Option<u64>,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub api_key_hash: Option<String>,
    pub api_key_name: Option<String>,
    pub workspace_id: Option<String>,
    pub region: Option<String>,
    pub user: Option<String>,
    pub session_id: Option<String>,
    pub trace: Trace,
    /// The request body with the top-level parts merged in.
    pub request: Value,
    /// The response body; null if there is none.
    pub response: Value,
    pub is_streamed: bool,
    pub usage: Usage,
    pub cost: Cost,
    pub status_code: Option<i64>,
    pub failure: Option<Failure>,
    pub attempts: Vec<Attempt>,
    /// From unknown fields, `trace` and `metadata`; of the same key the later of these counts.
    pub metadata: Map<String, Value>,
    /// Unknown fields whose names promise content.
    pub content: Map<String, Value>,
    pub tags: Vec<String>,
    pub credentials_removed: u32,
}

/// The `trace` object of broadcast-contract.md 5.1.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub trace_id: Option<String>,
    pub trace_name: Option<String>,
    pub span_name: Option<String>,
    pub generation_name: Option<String>,
    pub parent_span_id: Option<String>,
    /// Every other key, `environment` and `release` among them.
    pub metadata: Map<String, Value>,
}

/// One try of a provider.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub id: Option<String>,
    pub provider: Option<String>,
    pub status_code: Option<i64>,
    pub latency_ms: Option<f64>,
    pub start: Option<u64>,
    pub end: Option<u64>,
    pub is_byok: Option<bool>,
    pub endpoint_id: Option<String>,
    pub model: Option<String>,
    pub failure: Option<Failure>,
}

const REQUEST_PARTS: [&str; 5] = ["messages", "input", "prompt", "system", "tools"];
const RESPONSE_PARTS: [&str; 4] = ["output", "completion", "choices", "content"];

impl Record {
    pub(super) fn read(mut fields: Map<String, Value>, strict: bool) -> Result<Record, Fault> {
        let mut fields = Fields { object: &mut fields, path: "" };
        let mut record = Record {
            id: fields.text("id")?,
            start: fields.time("start_time")?,
            end: fields.time("end_time")?,
            first_token: fields.time("first_token_time")?,
            model: fields.text("model")?,
            provider: fields.text("provider")?,
            api_key_hash: fields.text("api_key_hash")?,
            api_key_name: fields.text("api_key_name")?,
            workspace_id: fields.text("workspace_id")?,
            region: fields.text("region")?,
            user: fields.text("user")?,
            session_id: fields.text("session_id")?,
            status_code: fields.status("status_code")?,
            ..Record::default()
        };
        let request_parts = fields.parts(&REQUEST_PARTS)?;
        let response_parts = fields.parts(&RESPONSE_PARTS)?;
        record.read_request(fields.take("request"), request_parts)?;
        if record.model.is_none() && record.request.as_object().is_none_or(Map::is_empty) {
            return Err(Fault::new("", "needs `model` or `request`: what was asked of which model"));
        }
        let (body, is_streamed) = response::read(fields.take("response"))?;
        record.response = with_parts(body, response_parts);
        record.is_streamed = is_streamed || record.request.get("stream") == Some(&Value::Bool(true));
        record.read_usage(&mut fields)?;
        let stated = fields.take("error");
        record.failure =
            stated.as_ref().and_then(failure).or_else(|| failure_in(&record.response)).or_else(|| {
                let code = record.status_code.filter(|code| *code >= 400)?;
                Some(Failure { kind: code.to_string(), message: format!("HTTP status {code}") })
            });
        record.read_attempts(fields.take("attempts"))?;
        let trace = fields.object("trace")?.or_else(|| record.request.get("trace")?.as_object().cloned());
        record.trace = Trace::read(trace.unwrap_or_default())?;
        let metadata = fields.object("metadata")?.unwrap_or_default();
        record.tags = fields.tags("tags")?;
        record.fill_from_bodies();
        record.read_unknown(fields.object, strict)?;
        record.metadata.append(&mut record.trace.metadata);
        record.metadata.extend(metadata);
        let keys = record.metadata.len() + record.content.len();
        if keys > METADATA_MAX {
            return Err(Fault::new(
                "",
                format!("at most {METADATA_MAX} metadata keys and unknown fields, got {keys}"),
            ));
        }
        Ok(record)
    }

    fn read_request(&mut self, given: Option<Value>, parts: Map<String, Value>) -> Result<(), Fault> {
        let mut body = match given {
            None | Some(Value::Null) => Map::new(),
            Some(Value::String(text)) => match parsed(&text, "request")? {
                Some(Value::Object(object)) => object,
                Some(list) => one_part("messages", list),
                None => one_part("prompt", Value::String(text)),
            },
            Some(Value::Object(object)) => object,
            Some(list @ Value::Array(_)) => one_part("messages", list),
            Some(other) => {
                let message =
                    format!("expected the request body as an object or JSON text, got {}", kind_of(&other));
                return Err(Fault::new("request", message));
            }
        };
        for (name, value) in parts {
            body.entry(name).or_insert(value);
        }
        self.request = Value::Object(body);
        Ok(())
    }

    /// `usage` and `cost` of the record, else those of the response; what a foreign body has wrong there is
    /// passed over, what the record itself has wrong is an error.
    fn read_usage(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        let mut source = fields.take("usage");
        self.usage = match &source {
            Some(usage) => Usage::from_json(usage).map_err(|fault| Fault::below("usage", fault))?,
            None => {
                source = field(&self.response, &["usage", "usageMetadata"]).cloned();
                source.as_ref().and_then(|usage| Usage::from_json(usage).ok()).unwrap_or_default()
            }
        };
        self.cost = match fields.take("cost") {
            Some(cost) => Cost::from_json(&cost).map_err(|fault| Fault::below("cost", fault))?,
            None => {
                let within = source.as_ref().and_then(|usage| field(usage, &["cost"]));
                within.and_then(|cost| Cost::from_json(cost).ok()).unwrap_or_default()
            }
        };
        Ok(())
    }

    fn read_attempts(&mut self, given: Option<Value>) -> Result<(), Fault> {
        let items = match given {
            None => return Ok(()),
            Some(Value::Array(items)) => items,
            Some(other) => {
                return Err(Fault::new("attempts", format!("expected an array, got {}", kind_of(&other))));
            }
        };
        if items.len() > ATTEMPTS_MAX {
            return Err(Fault::new(
                "attempts",
                format!("at most {ATTEMPTS_MAX} attempts, got {}", items.len()),
            ));
        }
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("attempts[{index}]");
            let Value::Object(mut object) = item else {
                return Err(Fault::new(path, format!("expected an object, got {}", kind_of(&item))));
            };
            let mut fields = Fields { object: &mut object, path: &path };
            let attempt = Attempt {
                id: fields.text("id")?,
                provider: fields.first_text(&["provider", "provider_name"])?,
                status_code: match fields.status("status_code")? {
                    Some(code) => Some(code),
                    None => fields.status("status")?,
                },
                latency_ms: match fields.amount("latency_ms")? {
                    Some(latency) => Some(latency),
                    None => fields.amount("latency")?,
                },
                start: fields.time("start_time")?,
                end: fields.time("end_time")?,
                is_byok: fields.take("is_byok").and_then(|value| value.as_bool()),
                endpoint_id: fields.text("endpoint_id")?,
                model: fields.first_text(&["model", "model_permaslug"])?,
                failure: fields.take("error").as_ref().and_then(failure),
            };
            self.attempts.push(attempt);
        }
        Ok(())
    }

    /// What the bodies say where the record is silent.
    fn fill_from_bodies(&mut self) {
        let text =
            |body: &Value, names: &[&str]| str_of(body, names).filter(|t| !t.is_empty()).map(str::to_owned);
        let (request, response) = (&self.request, &self.response);
        self.model =
            self.model.take().or_else(|| text(request, &["model"])).or_else(|| text(response, &["model"]));
        self.user = self.user.take().or_else(|| text(request, &["user"])).or_else(|| {
            // Anthropic's place for it.
            request.get("metadata").and_then(|m| text(m, &["user_id"]))
        });
        self.session_id = self.session_id.take().or_else(|| text(request, &["session_id"]));
        self.provider = self.provider.take().or_else(|| text(response, &["provider"]));
        // OpenRouter's own generation ids are unique; ids of other servers often are not.
        self.id = self.id.take().or_else(|| text(response, &["id"]).filter(|id| id.starts_with("gen-")));
    }

    fn read_unknown(&mut self, fields: &mut Map<String, Value>, strict: bool) -> Result<(), Fault> {
        for (name, mut value) in std::mem::take(fields) {
            if strict {
                return Err(Fault::new(
                    name,
                    "unknown field (strict): put it into `metadata` or leave it out",
                ));
            }
            if credentials::is_credential(&name, &value) {
                self.credentials_removed += 1;
                continue;
            }
            self.credentials_removed =
                self.credentials_removed.saturating_add(credentials::scrub(&mut value));
            let is_text = matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_));
            match is_text && looks_like_content(&name) {
                true => self.content.insert(name, value),
                false => self.metadata.insert(name, value),
            };
        }
        Ok(())
    }
}

fn one_part(name: &str, value: Value) -> Map<String, Value> {
    std::iter::once((name.to_owned(), value)).collect()
}

impl Trace {
    fn read(mut object: Map<String, Value>) -> Result<Trace, Fault> {
        let mut fields = Fields { object: &mut object, path: "trace" };
        Ok(Trace {
            trace_id: fields.text("trace_id")?,
            trace_name: fields.text("trace_name")?,
            span_name: fields.text("span_name")?,
            generation_name: fields.text("generation_name")?,
            parent_span_id: fields.text("parent_span_id")?,
            metadata: std::mem::take(fields.object),
        })
    }
}

/// The fields of an object, taken one by one; what is left is unknown.
struct Fields<'f> {
    object: &'f mut Map<String, Value>,
    path: &'f str,
}

impl Fields<'_> {
    /// The field; null is absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.object.remove(name).filter(|value| !value.is_null())
    }

    fn fault(&self, name: &str, expected: &str, got: &Value) -> Fault {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Fault::new(path, format!("expected {expected}, got {}", kind_of(got)))
    }

    /// A string, or a number as its text; empty is absent.
    fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(self.fault(name, "a string", &other)),
        }
    }

    fn first_text(&mut self, names: &[&str]) -> Result<Option<String>, Fault> {
        let mut first = None;
        for name in names {
            let read = self.text(name)?;
            first = first.or(read);
        }
        Ok(first)
    }

    fn time(&mut self, name: &str) -> Result<Option<u64>, Fault> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        match self.take(name) {
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            value => time::read(value, &path),
        }
    }

    fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(self.fault(name, "an object", &other)),
        }
    }

    fn status(&mut self, name: &str) -> Result<Option<i64>, Fault> {
        let value = self.take(name);
        let code = match &value {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        match code.filter(|code| (0..=999).contains(code)) {
            Some(code) => Ok(Some(code).filter(|code| *code != 0)),
            None => Err(self.fault(name, "an HTTP status", &value.unwrap_or_default())),
        }
    }

    fn amount(&mut self, name: &str) -> Result<Option<f64>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64().filter(|amount| *amount >= 0.0) {
            Some(amount) => Ok(Some(amount)),
            None => Err(self.fault(name, "milliseconds of 0 or more", &value)),
        }
    }

    /// An array of strings or a comma list.
    fn tags(&mut self, name: &str) -> Result<Vec<String>, Fault> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => {
                Ok(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect())
            }
            Some(Value::Array(items)) => {
                let mut tags = Vec::new();
                for (index, item) in items.into_iter().enumerate() {
                    match item {
                        Value::String(text) => tags.push(text),
                        Value::Number(number) => tags.push(number.to_string()),
                        other => return Err(self.fault(&format!("{name}[{index}]"), "a string", &other)),
                    }
                }
                Ok(tags)
            }
            Some(other) => Err(self.fault(name, "an array of strings", &other)),
        }
    }

    /// Top-level parts of a body; text that is JSON is read as such.
    fn parts(&mut self, names: &[&str]) -> Result<Map<String, Value>, Fault> {
        let mut parts = Map::new();
        for name in names {
            let Some(value) = self.take(name) else { continue };
            let value = match value {
                Value::String(text) => {
                    // The words of a message may begin like JSON and be none.
                    let read = parsed(&text, name).ok().flatten().filter(|read| is_part(name, read));
                    read.unwrap_or(Value::String(text))
                }
                value @ (Value::Array(_) | Value::Object(_)) => value,
                other => return Err(self.fault(name, "text, an array or an object", &other)),
            };
            parts.insert((*name).to_owned(), value);
        }
        Ok(parts)
    }
}

/// True if JSON text in a part is the part itself and not what a model was told or said.
fn is_part(name: &str, read: &Value) -> bool {
    match name {
        "messages" | "tools" | "choices" => read.is_array(),
        _ => {
            let first = read.as_array().and_then(|items| items.first()).unwrap_or(read);
            first.get("role").is_some() && first.get("content").is_some()
        }
    }
}
