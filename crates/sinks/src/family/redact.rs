//! Text for people out of foreign bytes: secrets replaced, length bounded.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Most bytes of a foreign body that reach a message.
pub(crate) const EXCERPT_BYTES_MAX: usize = 2048;
/// Shorter secrets would blank out ordinary words.
const SECRET_BYTES_MIN: usize = 4;

/// Knows the secrets of one destination and takes them out of texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redactor {
    secrets: Vec<SecretString>,
}

impl Redactor {
    pub(crate) fn new(secrets: impl IntoIterator<Item = SecretString>) -> Redactor {
        let mut secrets: Vec<SecretString> =
            secrets.into_iter().filter(|secret| secret.expose_secret().len() >= SECRET_BYTES_MIN).collect();
        // The longest first: one secret can be a part of another (`Bearer x` and `x`).
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
        Redactor { secrets }
    }

    /// The whole text of a body, for those who may see all of it but the secrets.
    pub(crate) fn body(&self, body: &[u8]) -> Vec<u8> {
        let mut text = String::from_utf8_lossy(body).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose_secret(), "***");
        }
        text.into_bytes()
    }

    /// At most [`EXCERPT_BYTES_MAX`] bytes of readable text, on one line.
    pub(crate) fn excerpt(&self, body: &[u8]) -> String {
        self.text(&String::from_utf8_lossy(body))
    }

    /// Secrets are replaced before the text is cut, so none is left in halves.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.expose_secret()) {
                text = text.replace(secret.expose_secret(), "***");
            }
        }
        let mut line = String::with_capacity(text.len().min(EXCERPT_BYTES_MAX));
        let mut space = false;
        for c in text.trim().chars() {
            let c = if c.is_control() { ' ' } else { c };
            if c == ' ' && space {
                continue;
            }
            space = c == ' ';
            if line.len() + c.len_utf8() > EXCERPT_BYTES_MAX {
                break;
            }
            line.push(c);
        }
        line
    }
}

/// A URL to show: user info is dropped, query values are masked.
pub(crate) fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs that cannot have user info.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    if url.query().is_none() {
        return shown.into();
    }
    let keys: Vec<String> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
    shown.set_query(None);
    let mut text = String::from(shown);
    for (i, key) in keys.iter().enumerate() {
        text.push(if i == 0 { '?' } else { '&' });
        text.push_str(key);
        text.push_str("=***");
    }
    text
}
