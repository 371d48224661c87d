//! URLs of destinations: what is accepted, what is shown, and the address that is really called.
//!
//! A URL is kept and returned as entered; the functions here derive what is called from it.
use url::{ParseError, Url};

use crate::issue::Fault;
use crate::mask::{HIDDEN, is_masked, mask};

/// What a URL field is, which decides what the URL may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A path is appended: no user info, no query.
    Base,
    /// Called nearly as given; user info is secret.
    Endpoint,
    /// Called as given; user info and the values of the query are secret.
    Webhook,
}

impl Address {
    /// Checks a URL. The faults quote nothing of it: it may hold a credential.
    pub(crate) fn check(self, text: &str) -> Result<(), Fault> {
        const SCHEME: &str = "must begin with http:// or https://";
        if text.is_empty() {
            return Err(Fault::new("must not be empty"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(Fault::new("must not hold white space, control characters or backslashes"));
        }
        let url = Url::parse(text).map_err(|error| match error {
            ParseError::RelativeUrlWithoutBase => Fault::new(SCHEME),
            error => Fault::new(format!("is not a valid url: {error}")),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Fault::new(SCHEME));
        }
        // The parser also takes `http:host` and `http:///host`; joining paths to these goes wrong.
        let rest = text.split_once("://").map_or("", |(_, rest)| rest);
        if rest.is_empty() || rest.starts_with('/') || url.host_str().is_none_or(str::is_empty) {
            return Err(Fault::new("is not a valid url: the host is missing"));
        }
        if url.fragment().is_some() {
            return Err(Fault::new("must not have a fragment (#...): it would never be sent"));
        }
        if self == Address::Base {
            if !url.username().is_empty() || url.password().is_some() {
                return Err(Fault::new("must not hold a user name or password")
                    .hint("credentials have fields of their own, or go into headers"));
            }
            if url.query().is_some() {
                return Err(Fault::new("must not have a query (?...): a path is appended to it"));
            }
        }
        Ok(())
    }

    /// The URL with each secret part replaced by `replace(part)`.
    pub(crate) fn map_secrets(self, url: &str, mut replace: impl FnMut(&str) -> String) -> String {
        let mut secret = |part: &str| if part.is_empty() { String::new() } else { replace(part) };
        let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let mut shown = format!("{scheme}://");
        match authority.rsplit_once('@') {
            Some((user_info, host)) => {
                match user_info.split_once(':') {
                    Some((user, password)) => {
                        shown += &secret(user);
                        shown.push(':');
                        shown += &secret(password);
                    }
                    None => shown += &secret(user_info),
                }
                shown.push('@');
                shown += host;
            }
            None => shown += authority,
        }
        match tail.split_once('?').filter(|_| self == Address::Webhook) {
            Some((path, query)) => {
                shown += path;
                for (i, pair) in query.split('&').enumerate() {
                    shown.push(if i == 0 { '?' } else { '&' });
                    match pair.split_once('=') {
                        Some((name, value)) => {
                            shown += name;
                            shown.push('=');
                            shown += &secret(value);
                        }
                        None => shown += &secret(pair),
                    }
                }
            }
            None => shown += tail,
        }
        shown
    }

    /// Whether a PATCH that sends `given` means "keep `current`": the same URL with its secret
    /// parts masked. Masked parts in a URL that differs otherwise cannot be resolved: a fault.
    pub(crate) fn keeps(self, given: &str, current: Option<&str>) -> Result<bool, Fault> {
        let (mut masked, mut clear) = (false, false);
        let given_outline = self.map_secrets(given, |part| {
            if is_masked(part) {
                masked = true
            } else {
                clear = true
            }
            HIDDEN.to_owned()
        });
        if !masked {
            return Ok(false);
        }
        let outline = current.map(|url| self.map_secrets(url, |_| HIDDEN.to_owned()));
        if !clear && outline.as_deref() == Some(&given_outline) {
            return Ok(true);
        }
        Err(Fault::new("holds masked values but is not the current url")
            .hint("send the whole url in clear, or leave it out to keep it"))
    }
}

/// A URL for people: user info and the values of the query masked.
pub fn mask_url(url: &str) -> String {
    Address::Webhook.map_secrets(url, mask)
}

/// The traces URL an OTLP endpoint stands for: an empty path becomes `/v1/traces`, a path ending
/// in `/v1` gets `/traces`, anything else is used as given. The query stays.
pub fn otlp_traces_url(endpoint: &str) -> String {
    let (address, query) = match endpoint.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (endpoint, None),
    };
    let trimmed = address.trim_end_matches('/');
    let path = trimmed.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    let mut url = match path {
        None => format!("{trimmed}/v1/traces"),
        Some((_, path)) if path == "v1" || path.ends_with("/v1") => format!("{trimmed}/traces"),
        Some(_) => address.to_owned(),
    };
    if let Some(query) = query {
        url.push('?');
        url += query;
    }
    url
}

/// `base` with `parts` appended once: trailing slashes go, and so does what is already there of
/// the parts. With parts `/otlp` and `/v1/traces`, the bases `h`, `h/otlp/` and `h/otlp/v1/traces`
/// all give `h/otlp/v1/traces`.
pub(crate) fn join(base: &str, parts: &[&str]) -> String {
    let base = base.trim_end_matches('/');
    let whole = parts.concat();
    let ends: Vec<usize> = parts
        .iter()
        .scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        })
        .collect();
    let stem = ends
        .iter()
        .rev()
        .filter_map(|end| whole.get(..*end))
        .find_map(|present| base.strip_suffix(present.trim_end_matches('/')))
        .unwrap_or(base);
    format!("{stem}{whole}")
}

/// Text as one path segment: everything but unreserved characters percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// The host of a URL in lower case, without port; empty if it has none.
pub(crate) fn host(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn otlp_endpoint_gets_the_path_it_lacks() {
        for (endpoint, url) in [
            ("http://h:4318", "http://h:4318/v1/traces"),
            ("http://h:4318/", "http://h:4318/v1/traces"),
            ("http://h:4318/v1", "http://h:4318/v1/traces"),
            ("http://h:4318/v1/", "http://h:4318/v1/traces"),
            ("http://h/otlp/v1", "http://h/otlp/v1/traces"),
            ("http://h/v1/traces", "http://h/v1/traces"),
            ("http://h/custom/", "http://h/custom/"),
            ("http://h/xv1", "http://h/xv1"),
            ("http://h?a=/b", "http://h/v1/traces?a=/b"),
            ("http://h/v1?a=b", "http://h/v1/traces?a=b"),
            ("http://h/x?a=b", "http://h/x?a=b"),
        ] {
            assert_eq!(otlp_traces_url(endpoint), url, "{endpoint}");
        }
    }

    #[test]
    fn join_appends_once() {
        let parts = ["/otlp", "/v1/traces"];
        for base in ["http://h", "http://h/", "http://h/otlp", "http://h/otlp/v1/traces/"] {
            assert_eq!(join(base, &parts), "http://h/otlp/v1/traces", "{base}");
        }
        assert_eq!(join("http://h/v1/traces", &parts), "http://h/v1/traces/otlp/v1/traces");
        assert_eq!(join("http://h/a/b//", &["/c"]), "http://h/a/b/c");
        assert_eq!(join("http://h", &[]), "http://h");
    }

    #[test]
    fn secrets_of_a_webhook_url_are_masked_in_place() {
        assert_eq!(
            mask_url("https://user:password-1234@h/p?token=0123456789ab&x=&flag"),
            "https://***:pass...1234@h/p?token=0123...89ab&x=&***"
        );
        assert_eq!(mask_url("https://h/a@b?c=d@e"), "https://h/a@b?c=***");
        assert_eq!(mask_url("https://h:1/p"), "https://h:1/p");
        assert_eq!(mask_url("no url"), "no url");
        assert_eq!(
            Address::Endpoint.map_secrets("https://u@h/p?token=0123456789ab", mask),
            "https://***@h/p?token=0123456789ab"
        );
    }

    #[test]
    fn a_masked_url_keeps_the_current_one_or_is_refused() {
        let current = Some("https://u:pw@h/p?token=0123456789ab&v=2");
        let keeps = |given| Address::Webhook.keeps(given, current).ok();
        assert_eq!(keeps("https://***:***@h/p?token=0123...89ab&v=***"), Some(true));
        // masked from an older read
        assert_eq!(keeps("https://***:***@h/p?token=9999...9999&v=***"), Some(true));
        assert_eq!(keeps("https://u:pw@h/p?token=new"), Some(false));
        assert_eq!(keeps("https://h/other"), Some(false));
        // another host, or one part changed: cannot be resolved
        assert_eq!(keeps("https://***:***@other/p?token=0123...89ab&v=***"), None);
        assert_eq!(keeps("https://***:***@h/p?token=changed&v=***"), None);
    }

    #[test]
    fn url_rules() {
        for url in ["http://h", "https://h:8443/a/b", "HTTPS://H/", "http://[::1]:4318", "http://a_b"] {
            assert!(Address::Base.check(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "h",
            "h:4318",
            "ftp://h",
            "http://",
            "http:///h",
            "http:h",
            "http:/h",
            "//h",
            "http://h h",
            "http://h\n",
            " http://h",
            "http://h\\x",
            "http://h:99999",
            "http://h/#f",
            "http://u@h",
            "http://u:p@h",
            "http://h?a=b",
            "http://[::1",
            "mailto:a@b",
            "http://?x",
        ] {
            assert!(Address::Base.check(url).is_err(), "{url}");
        }
        for url in ["http://u:p@h/x?a=b", "https://h?t"] {
            assert!(Address::Endpoint.check(url).is_ok(), "{url}");
            assert!(Address::Webhook.check(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(segment("my team/ä"), "my%20team%2F%C3%A4");
    }
}
