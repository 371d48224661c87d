//! `ramp`: AI usage to Ramp. **Unverified against the vendor**: no public page of Ramp describes the receiver.
//!
//! Contract: OpenRouter's page "Broadcast to Ramp" (OTLP; which fields arrive); what it leaves open is decided here
//! as sinks-llm-platforms.md 10 says: Bearer authentication, `/v1/traces` below the base URL, JSON first.
//!
//! | | |
//! | --- | --- |
//! | what to enter | the API key of Ramp's OpenRouter integration page |
//! | URL | `{baseUrl}/v1/traces` |
//! | auth | `Authorization: Bearer apiKey` |
//! | body | OTLP/JSON, uncompressed; after a 415 protobuf, kept until restart |
//! | what arrives | model, provider, tokens, cost, user, session, `trace.metadata.*`; messages unless private |
//! | limits | 100 spans, 1 MB, 1 s |
//! | privacy | prompts, answers and the messages of errors are not sent |
//! | test | an empty request |

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::header;
use tracecast_destination::RampConfig;
use tracecast_genai::Generation;
use tracecast_otlp::write::Edit;

use crate::family::endpoint::Endpoint;
use crate::family::http::Reply;
use crate::family::neutral::{self, Adding, Additions};
use crate::family::otlp_vendor::{Form, OtlpVendor, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::{headers, urls};
use crate::{BatchLimits, BuildError, Clients};

/// The adapter.
pub(crate) type Ramp = OtlpVendor<Receiver>;

/// Ramp's receiver.
#[derive(Debug)]
pub(crate) struct Receiver;

const DIALECT: Adding = Adding { add, keep_events: true };

fn add(generation: &Generation<'_>, to: &mut Additions<'_, '_>) {
    neutral::add(generation, to);
    if !generation.is_generation() {
        return;
    }
    // A tool for spending: tokens are counted in both spellings, and cost also in the names that OpenRouter, whose
    // spans are the ones Ramp knows, gives it (broadcast-contract.md 5.4).
    let (usage, cost) = (generation.usage(), generation.cost());
    to.count("gen_ai.usage.prompt_tokens", usage.input);
    to.count("gen_ai.usage.completion_tokens", usage.output);
    to.number("gen_ai.usage.input_cost", cost.input);
    to.number("gen_ai.usage.output_cost", cost.output);
    to.number("gen_ai.usage.total_cost", cost.total);
}

impl Vendor for Receiver {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 100,
        bytes_max: 1_000_000,
        age_max: Duration::from_secs(1),
        concurrency_max: 4,
    };

    fn edit(&self) -> Option<&dyn Edit> {
        Some(&DIALECT)
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let advice = [
            (403, "the key is not of Ramp's OpenRouter integration"),
            (401, "make a new key on the OpenRouter integration page of Ramp"),
            (404, "the path of the receiver is not documented: ask Ramp for the OTLP address, and enter it"),
        ];
        verdict(reply, redactor, "the key was accepted; nothing was stored", &advice)
    }
}

impl Ramp {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &RampConfig, clients: &Clients) -> Result<Self, BuildError> {
        let url = urls::parse("config.baseUrl", &config.traces_url())?;
        let own = [(header::AUTHORIZATION, headers::bearer("config.apiKey", &config.api_key)?)];
        let endpoint = Endpoint::new(clients, url, own, &config.headers, &[])?;
        let protobuf = Form { json: false, gzip: false };
        Ok(OtlpVendor::assemble(endpoint, Receiver, vec![Form::JSON, protobuf]))
    }
}
