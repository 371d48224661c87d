//! The request: encoding, compression, headers.

use http::{HeaderValue, header};
use tracecast_destination::{ExposeSecret, Headers, OtelCollectorConfig};

use crate::family::endpoint::Endpoint;
use crate::family::otlp_vendor::Form;
use crate::family::{address, urls};
use crate::{BuildError, Clients};

/// Choose encoding and compression; consumed here, never sent.
const ENCODING_HEADER: &str = "x-tracecast-encoding";
const COMPRESSION_HEADER: &str = "x-tracecast-compression";

pub(super) fn endpoint(
    config: &OtelCollectorConfig,
    clients: &Clients,
) -> Result<(Endpoint, Vec<Form>), BuildError> {
    let url = urls::parse("config.endpoint", &config.traces_url())?;
    let mut user = config.headers.clone();
    let json = choice(&user, ENCODING_HEADER, ["protobuf", "json"])?;
    let compressed = choice(&user, COMPRESSION_HEADER, ["none", "gzip"])?;
    user.retain(|(name, _)| {
        ![ENCODING_HEADER, COMPRESSION_HEADER].iter().any(|own| name.eq_ignore_ascii_case(own))
    });
    let gzip = compressed.unwrap_or_else(|| url.scheme() == "https" || !address::is_near(&url));

    // Set again for each request; here so that a user header cannot take the name.
    let own = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))];
    let endpoint = Endpoint::new(clients, url, own, &user, &[])?;
    Ok((endpoint, forms(gzip, json)))
}

/// The forms to try, best first.
fn forms(gzip: bool, json: Option<bool>) -> Vec<Form> {
    let first_json = json.unwrap_or(false);
    let mut forms = Vec::with_capacity(3);
    if gzip {
        forms.push(Form { json: first_json, gzip: true });
    }
    forms.push(Form { json: first_json, gzip: false });
    if json.is_none() {
        forms.push(Form::JSON);
    }
    forms
}

/// Which of two words a header of ours says; `None` if it is not there.
fn choice(user: &Headers, header: &str, words: [&str; 2]) -> Result<Option<bool>, BuildError> {
    let Some((_, value)) = user.iter().find(|(name, _)| name.eq_ignore_ascii_case(header)) else {
        return Ok(None);
    };
    let value = value.expose_secret().trim().to_ascii_lowercase();
    match words.iter().position(|word| *word == value) {
        Some(position) => Ok(Some(position == 1)),
        None => {
            Err(BuildError::Invalid(format!("config.headers.{header} must be {} or {}", words[1], words[0])))
        }
    }
}
