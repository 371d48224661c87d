//! How much a destination may be sent per second: an addition of this gateway, absent by default.
use serde_json::{Map, Value as Json, json};

use crate::issue::{Fault, expected};
use crate::read::unknown;

/// A bound on what is sent to one destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimit {
    /// Requests started in one second.
    RequestsPerSecond(f64),
    /// Spans sent in one second.
    SpansPerSecond(f64),
}

const REQUESTS: &str = "requests_per_second";
const SPANS: &str = "spans_per_second";
/// One in a quarter of an hour.
const LOWEST: f64 = 0.001;
const HIGHEST: f64 = 1e6;

impl RateLimit {
    /// `{"requests_per_second": n}` or `{"spans_per_second": n}`.
    pub(crate) fn read(json: &Json) -> Result<RateLimit, Fault> {
        let members = json.as_object().ok_or_else(|| expected("an object or null", json))?;
        if let Some((key, _)) = unknown(members, &[REQUESTS, SPANS]).next() {
            return Err(Fault::new(format!("has the unknown field {key:?}"))
                .hint(format!("give {REQUESTS} or {SPANS}")));
        }
        match (rate(members, REQUESTS)?, rate(members, SPANS)?) {
            (Some(rate), None) => Ok(RateLimit::RequestsPerSecond(rate)),
            (None, Some(rate)) => Ok(RateLimit::SpansPerSecond(rate)),
            _ => {
                Err(Fault::new(format!("must hold one of {REQUESTS} and {SPANS}"))
                    .hint("null means no limit"))
            }
        }
    }

    pub(crate) fn to_json(self) -> Json {
        let (key, rate) = match self {
            RateLimit::RequestsPerSecond(rate) => (REQUESTS, rate),
            RateLimit::SpansPerSecond(rate) => (SPANS, rate),
        };
        json!({ key: rate })
    }

    pub(crate) fn json_schema() -> Json {
        let rate = || json!({ "type": "number", "minimum": LOWEST, "maximum": HIGHEST });
        json!({
            "type": ["object", "null"],
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": false,
            "properties": { REQUESTS: rate(), SPANS: rate() },
            "description": "Never send faster than this; absent or null = as fast as the destination takes it.",
        })
    }
}

fn rate(members: &Map<String, Json>, key: &str) -> Result<Option<f64>, Fault> {
    let Some(json) = members.get(key) else { return Ok(None) };
    let rate = json.as_f64().ok_or_else(|| expected("a number", json))?;
    if (LOWEST..=HIGHEST).contains(&rate) {
        return Ok(Some(rate));
    }
    let fault = Fault::new(format!("must be from {LOWEST} to {HIGHEST}, found {rate}"));
    Err(if rate == 0.0 { fault.hint("to send nothing, set enabled to false") } else { fault })
}
