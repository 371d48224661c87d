//! `grafana`: traces to the OTLP gateway of Grafana Cloud.
//!
//! Contract: Grafana Cloud documentation "Send data to the Grafana Cloud OTLP endpoint"; Tempo's limits
//! (`overrides`); sinks-infrastructure.md 4.
//!
//! | | |
//! | --- | --- |
//! | what to enter | the OTLP endpoint of the stack (with or without `/otlp`), its numeric instance id, an access policy token with the scope `traces:write` |
//! | URL | `{baseUrl}/otlp/v1/traces` |
//! | auth | `Authorization: Basic base64(instanceId:apiKey)` |
//! | body | protobuf, gzip; after a 415 as JSON |
//! | what arrives | one Tempo span per span; model, tokens, cost, user and session as `gen_ai.*`, `user.id`, `session.id`, whichever dialect the sender spoke |
//! | limits | 512 spans, 4 MiB, 200 ms. Tempo cuts attribute values at its own limit (about 2 KB unless the stack says otherwise): long prompts end there |
//! | 400 | a trace that is too large for the stack; found by halving, dead-lettered alone |
//! | privacy | prompts, answers and the messages of errors are not sent |
//! | test | an empty request: proves token, instance and path. Traces show up after a minute or two |

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::header;
use tracecast_destination::{ExposeSecret, GrafanaConfig};
use tracecast_otlp::write::Edit;

use crate::family::endpoint::Endpoint;
use crate::family::http::Reply;
use crate::family::neutral::{self, Adding};
use crate::family::otlp_vendor::{Form, OtlpVendor, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::{headers, urls};
use crate::{BatchLimits, BuildError, Clients};

/// The adapter.
pub(crate) type Grafana = OtlpVendor<Gateway>;

/// The OTLP gateway of a stack.
#[derive(Debug)]
pub(crate) struct Gateway;

const NEUTRAL: Adding = Adding { add: neutral::add, keep_events: true };

impl Vendor for Gateway {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 512,
        bytes_max: 4 << 20,
        age_max: Duration::from_millis(200),
        concurrency_max: 8,
    };

    fn edit(&self) -> Option<&dyn Edit> {
        Some(&NEUTRAL)
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let advice = [
            (401, "instance id and token do not belong together, or the token is of another stack"),
            (403, "the access policy of the token lacks the scope traces:write"),
            (404, "take the OTLP endpoint of the stack, not the address of Tempo or of the Grafana UI"),
        ];
        verdict(reply, redactor, "token and instance id work; nothing was stored", &advice)
    }
}

impl Grafana {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &GrafanaConfig, clients: &Clients) -> Result<Self, BuildError> {
        let url = urls::parse("config.baseUrl", &config.traces_url())?;
        let credential =
            headers::basic("config.apiKey", &config.instance_id, config.api_key.expose_secret())?;
        let own = [(header::AUTHORIZATION, credential)];
        let endpoint = Endpoint::new(clients, url, own, &config.headers, &[&config.api_key])?;
        Ok(OtlpVendor::assemble(endpoint, Gateway, vec![Form::PACKED, Form::JSON]))
    }
}
