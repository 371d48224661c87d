//! `newrelic`: traces to New Relic's OTLP endpoint.
//!
//! Contract: docs.newrelic.com "New Relic OTLP endpoint" and "OpenTelemetry attributes: best practices" (limits);
//! sinks-infrastructure.md 3.
//!
//! | | |
//! | --- | --- |
//! | what to enter | an ingest license key (not a user key `NRAK-...`) and the region of the account |
//! | URL | `https://otlp.nr-data.net/v1/traces`, `https://otlp.eu01.nr-data.net/v1/traces`, or below `baseUrl` (ours: a proxy) |
//! | auth | `api-key` |
//! | body | protobuf, gzip |
//! | what arrives | one span per span; model, tokens, cost, user and session as `gen_ai.*`, `user.id`, `session.id` |
//! | limits | 200 spans, 900 KB of the 1,000,000 bytes allowed, 1 s. Values over 4,095 characters are cut with a visible end and `<key>.truncated`; a structure whose JSON is longer, and a list of more than 64 entries, goes as that text; numbers that are none, and names over 255 characters, are left out. New Relic checks after it has answered, so nothing of this may be left to it |
//! | privacy | prompts, answers and the messages of errors are not sent |
//! | test | an empty request: proves the key |

mod dialect;
#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderName;
use tracecast_destination::{ExposeSecret, NewrelicConfig};
use tracecast_otlp::write::Edit;

use self::dialect::Dialect;
use crate::family::endpoint::Endpoint;
use crate::family::http::Reply;
use crate::family::otlp_vendor::{Form, OtlpVendor, Vendor};
use crate::family::probe::{Verdict, verdict};
use crate::family::redact::Redactor;
use crate::family::{headers, urls};
use crate::{BatchLimits, BuildError, Clients};

const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// The adapter.
pub(crate) type Newrelic = OtlpVendor<Intake>;

/// New Relic's OTLP intake.
#[derive(Debug)]
pub(crate) struct Intake;

impl Vendor for Intake {
    const LIMITS: BatchLimits = BatchLimits {
        spans_max: 200,
        bytes_max: 900_000,
        age_max: Duration::from_secs(1),
        concurrency_max: 4,
    };

    const BODY_BYTES_MAX: usize = 1_000_000;

    fn edit(&self) -> Option<&dyn Edit> {
        Some(&Dialect)
    }

    fn verdict(&self, reply: &Reply, redactor: &Redactor) -> Verdict {
        let wrong_key = "the license key is of no account in this region: check config.region and the key's type \
                         (Ingest - License)";
        verdict(
            reply,
            redactor,
            "the license key works; nothing was stored",
            &[(401, wrong_key), (403, wrong_key)],
        )
    }
}

impl Newrelic {
    /// Checks the URL and the headers; opens no connection.
    pub(crate) fn new(config: &NewrelicConfig, clients: &Clients) -> Result<Self, BuildError> {
        let url = urls::parse("config.baseUrl", &config.traces_url())?;
        let own = [(API_KEY, headers::secret("config.licenseKey", config.license_key.expose_secret())?)];
        let endpoint = Endpoint::new(clients, url, own, &config.headers, &[])?;
        Ok(OtlpVendor::assemble(endpoint, Intake, vec![Form::PACKED]))
    }
}
