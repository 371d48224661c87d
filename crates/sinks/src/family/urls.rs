//! Parsing of addresses. What is derived from an entry (design 3.4, URL rule) is the config's word.

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
