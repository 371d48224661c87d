//! The request: encoding, compression, headers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use tracecast_destination::{ExposeSecret, OtelCollectorConfig};

use crate::family::endpoint::Endpoint;
use crate::family::http::Outgoing;
use crate::family::otlp_http::{self, Body};
use crate::family::projection::edit;
use crate::family::{address, gzip, urls};
use crate::{Batch, BuildError, Clients};

/// Chooses the encoding; consumed here, never sent.
const ENCODING_HEADER: &str = "x-tracecast-encoding";

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) json: bool,
    pub(super) gzip: bool,
}

impl Form {
    /// The request without spans.
    pub(super) fn empty(self) -> Bytes {
        let plain: &'static [u8] = if self.json { b"{\"resourceSpans\":[]}" } else { b"" };
        if self.gzip { gzip::compress(plain) } else { Bytes::from_static(plain) }
    }
}

/// The forms to try, best first; 415 moves on to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forms(Vec<Form>);

impl Forms {
    fn new(gzip: bool, fixed: Option<bool>) -> Forms {
        let mut forms = Vec::with_capacity(3);
        let first_json = fixed.unwrap_or(false);
        if gzip {
            forms.push(Form { json: first_json, gzip: true });
        }
        forms.push(Form { json: first_json, gzip: false });
        if fixed.is_none() {
            forms.push(Form { json: true, gzip: false });
        }
        Forms(forms)
    }

    pub(super) fn at(&self, position: u8) -> Form {
        self.0
            .get(usize::from(position))
            .or(self.0.last())
            .copied()
            .unwrap_or(Form { json: false, gzip: false })
    }

    pub(super) fn has(&self, position: u8) -> bool {
        usize::from(position) < self.0.len()
    }
}

pub(super) fn endpoint(
    config: &OtelCollectorConfig,
    clients: &Clients,
) -> Result<(Endpoint, Forms), BuildError> {
    let url = urls::parse("config.endpoint", &config.traces_url())?;
    let mut fixed = None;
    let mut user = config.headers.clone();
    for (name, value) in &config.headers {
        if name.eq_ignore_ascii_case(ENCODING_HEADER) {
            fixed = match value.expose_secret().trim().to_ascii_lowercase().as_str() {
                "json" => Some(true),
                "protobuf" => Some(false),
                _ => {
                    return Err(BuildError::Invalid(format!(
                        "config.headers.{ENCODING_HEADER} must be json or protobuf"
                    )));
                }
            };
        }
    }
    user.retain(|(name, _)| !name.eq_ignore_ascii_case(ENCODING_HEADER));
    let gzip = url.scheme() == "https" || !address::is_near(&url);

    let mut own = HeaderMap::new();
    // Set again for each request; here so that a user header cannot take the name.
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let endpoint = Endpoint::new(clients, Method::POST, url, own, &user, Vec::new())?;
    Ok((endpoint, Forms::new(gzip, fixed)))
}

/// The body before compression.
pub(super) fn body(form: Form, batch: &Batch) -> Body {
    if form.json { otlp_http::json(&batch.items, edit) } else { otlp_http::protobuf(&batch.items, edit) }
}

/// The body as it is sent.
pub(super) fn packed(form: Form, batch: &Batch) -> Body {
    let mut body = body(form, batch);
    if form.gzip {
        body.bytes = gzip::compress(&body.bytes);
    }
    body
}

/// The body is the received bytes: making it is only copying.
pub(super) fn is_copy(form: Form, batch: &Batch) -> bool {
    !form.json && !form.gzip && batch.items.iter().all(|item| !item.private && item.spans.is_all())
}

pub(super) fn outgoing(endpoint: &Endpoint, form: Form, body: Bytes) -> Outgoing {
    let mut outgoing = endpoint.request(body);
    if form.json {
        outgoing.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if form.gzip {
        outgoing.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    outgoing
}
