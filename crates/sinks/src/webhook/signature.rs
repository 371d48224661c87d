//! The signature after Standard Webhooks: every secret that is in force signs id, time and body.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tracecast_destination::{WebhookConfig, signing_key};

use crate::BuildError;

pub(super) const ID: HeaderName = HeaderName::from_static("webhook-id");
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Signs requests; without a secret it does nothing. The keys' own `Debug` shows none of them.
#[derive(Debug)]
pub(super) struct Signer {
    /// The current key, then former ones with the time until which they sign.
    keys: Vec<(hmac::Key, Timestamp)>,
}

impl Signer {
    pub(super) fn new(config: &WebhookConfig) -> Result<Signer, BuildError> {
        let current = config.signing_secret.iter().map(|secret| (secret, Timestamp::MAX));
        let former =
            config.previous_signing_secrets.iter().map(|former| (&former.secret, former.signs_until));
        let keys = current.chain(former).map(|(secret, until)| Ok((key(secret)?, until)));
        Ok(Signer { keys: keys.collect::<Result<_, BuildError>>()? })
    }

    /// Adds time and signatures to the headers of a request sent at `now`.
    pub(super) fn sign(&self, id: &str, now: Timestamp, body: &[u8], headers: &mut HeaderMap) {
        if self.keys.is_empty() {
            return;
        }
        let time = now.as_second();
        let signatures: Vec<String> = self
            .keys
            .iter()
            .filter(|(_, until)| now < *until)
            .map(|(key, _)| {
                let mut content = hmac::Context::with_key(key);
                content.update(format!("{id}.{time}.").as_bytes());
                content.update(body);
                format!("v1,{}", STANDARD.encode(content.sign()))
            })
            .collect();
        headers.insert(TIMESTAMP, HeaderValue::from(time));
        // Base64 fits into a header.
        if let Ok(value) = HeaderValue::from_str(&signatures.join(" ")) {
            headers.insert(SIGNATURE, value);
        }
    }
}

fn key(secret: &SecretString) -> Result<hmac::Key, BuildError> {
    let key = signing_key(secret.expose_secret())
        .ok_or_else(|| BuildError::Invalid("config.signingSecret: not a whsec_ secret".into()))?;
    Ok(hmac::Key::new(HMAC_SHA256, &key))
}
