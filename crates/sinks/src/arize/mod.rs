//! `arize`: traces in OpenInference words, to Arize AX or a Phoenix.
//!
//! Contract: Arize documentation "OpenTelemetry (arize-otel)", the `arize-otel` SDK 0.14 (headers, resource), the
//! OpenInference semantic conventions 0.1.42 and `spec/` (LLM, embedding and tool spans; well-known providers);
//! sinks-llm-platforms.md 6, 11.
//!
//! | | |
//! | --- | --- |
//! | what to enter | API key, space key (or id) and `modelId`, the name of the tracing project |
//! | URL | `{baseUrl}/v1/traces`; a Phoenix of one's own works too |
//! | auth | `authorization: {apiKey}` (no scheme) and `arize-space-id`; `api_key`, `space_id`, `space_key` for older receivers |
//! | body | protobuf, gzip |
//! | what arrives | span kind, model, provider, messages, tool calls, parameters, tokens, cost, session, user, tags and metadata as OpenInference attributes; the project as a resource attribute |
//! | what the sender said in OpenInference itself | stays as it is; messages are added only to spans without any |
//! | limits | 512 spans, 4 MB, 200 ms |
//! | identity | (trace id, span id) |
//! | privacy | messages, inputs, outputs and the messages of errors are not sent |
//! | test | an empty request: proves key and space. Arize takes data asynchronously, so a wrong project name shows up as a new project |

mod dialect;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use tracecast_destination::{ArizeConfig, ExposeSecret};
use tracecast_otlp::write::Edit;

use self::dialect::Dialect;
use crate::family::endpoint::Endpoint;
use crate::family::http::Reply;
use crate::family::otlp_vendor::{Form, OtlpVendor, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::{headers, urls};
use crate::{BatchLimits, BuildError, Clients};

const SPACE_ID: HeaderName = HeaderName::from_static("arize-space-id");
const INTERFACE: HeaderName = HeaderName::from_static("arize-interface");
/// Names of the same two values that older receivers read.
const OLD_API_KEY: HeaderName = HeaderName::from_static("api_key");
const OLD_SPACE: [HeaderName; 2] =
    [HeaderName::from_static("space_id"), HeaderName::from_static("space_key")];

/// The adapter.
pub(crate) type Arize = OtlpVendor<Space>;

/// A project of an Arize space.
#[derive(Debug)]
pub(crate) struct Space {
    dialect: Dialect,
}

impl Vendor for Space {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 512,
        bytes_max: 4_000_000,
        age_max: Duration::from_millis(200),
        concurrency_max: 8,
    };

    fn edit(&self) -> Option<&dyn Edit> {
        Some(&self.dialect)
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let wrong_key = "key and space must be of the same account and region";
        let advice = [
            (401, wrong_key),
            (403, wrong_key),
            (
                404,
                "enter the OTLP base url, e.g. https://otlp.arize.com or https://otlp.eu-west-1a.arize.com",
            ),
        ];
        verdict(reply, redactor, "key and space were accepted; nothing was stored", &advice)
    }
}

impl Arize {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &ArizeConfig, clients: &Clients) -> Result<Self, BuildError> {
        let url = urls::parse("config.baseUrl", &config.traces_url())?;
        let key = headers::secret("config.apiKey", config.api_key.expose_secret())?;
        let space = headers::secret("config.spaceKey", config.space_key.expose_secret())?;
        let [space_id, space_key] = OLD_SPACE;
        let own = [
            (header::AUTHORIZATION, key.clone()),
            (OLD_API_KEY, key),
            (SPACE_ID, space.clone()),
            (space_id, space.clone()),
            (space_key, space),
            (INTERFACE, HeaderValue::from_static("otel")),
        ];
        let endpoint = Endpoint::new(clients, url, own, &config.headers, &[])?;
        let space = Space { dialect: Dialect::new(&config.model_id) };
        Ok(OtlpVendor::assemble(endpoint, space, vec![Form::PACKED]))
    }
}
