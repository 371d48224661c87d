//! Parsing of addresses. What is derived from an entry (design 3.4, URL rule) is the config's word.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

use crate::BuildError;

/// Parses an absolute http or https URL; `field` is named in the error.
pub(crate) fn parse(field: &str, text: &str) -> Result<Url, BuildError> {
    let url = Url::parse(text.trim())
        .map_err(|error| BuildError::Invalid(format!("{field} is not a url: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(BuildError::Invalid(format!(
            "{field} must start with http:// or https:// and name a host"
        )));
    }
    Ok(url)
}

/// What in a URL may be secret, in every form a receiver may repeat it: user info as written, decoded,
/// and as the header it becomes, and the values of the query.
pub(crate) fn secrets_of(url: &Url) -> Vec<SecretString> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let mut secrets = vec![user.to_owned(), decode(user), password.to_owned(), decode(password)];
    if !user.is_empty() || !password.is_empty() {
        secrets.push(STANDARD.encode(format!("{}:{}", decode(user), decode(password))));
    }
    for pair in url.query().unwrap_or_default().split('&') {
        secrets.push(pair.split_once('=').map_or(pair, |(_, value)| value).to_owned());
    }
    secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    secrets.into_iter().map(SecretString::from).collect()
}
