//! The client of the admin API that the command line speaks: one call, and what can come of it.

use std::time::Duration;

use reqwest::{Method, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value as Json;

use crate::Exit;

/// A connection test takes up to 15 s; nothing else comes near.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream lives as long as somebody looks at it.
const STREAM_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// More pages than any gateway has: a server that never ends its list does not keep us for ever.
const PAGES_MAX: usize = 1_000;

/// A gateway's admin API and the key to it.
pub(crate) struct Admin {
    base: Url,
    key: SecretString,
    client: reqwest::Client,
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The body as received.
    pub(crate) text: String,
    /// The same, read.
    pub(crate) body: Json,
}

/// Why a command of the admin API did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for makes no sense; nothing was sent, or nothing was changed.
    #[error("{0}")]
    Usage(String),
    /// No answer.
    #[error("no gateway answers at {base}: {reason}")]
    Unreachable { base: String, reason: String },
    /// An answer, but not of this API.
    #[error("{base} does not answer like a tracecast admin listener (status {status}): check --admin")]
    Foreign { base: String, status: u16 },
    /// The gateway says no.
    #[error("{0}")]
    Refused(Refusal),
    /// The machine under this process.
    #[error("{0}")]
    Internal(String),
}

/// An error answer of the API.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    /// `path`, `message`, `hint` of everything wrong with the body, if that was the reason.
    pub(crate) issues: Vec<Issue>,
    /// The outcome of the connection test that stood in the way.
    pub(crate) test: Option<Json>,
    /// The body as received.
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct Issue {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Admin {
    /// `url` is the base of the admin listener, with or without `/api/v1`.
    pub(crate) fn new(url: &str, key: SecretString) -> Result<Admin, Failure> {
        let wrong = || {
            Failure::Usage(format!("`{url}` is not the URL of an admin listener, like http://127.0.0.1:4320"))
        };
        let trimmed = url.trim().trim_end_matches('/');
        let trimmed = trimmed.strip_suffix("/api/v1").unwrap_or(trimmed);
        let base = Url::parse(trimmed).map_err(|_| wrong())?;
        if !base.username().is_empty() || base.password().is_some() {
            let message =
                "the URL of the admin listener carries credentials: give the key as TRACECAST_MANAGEMENT_KEY";
            return Err(Failure::Usage(message.to_owned()));
        }
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() || base.fragment().is_some() {
            return Err(wrong());
        }
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("tracecast/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Failure::Internal(format!("no HTTP client: {}", innermost(&e))))?;
        Ok(Admin { base, key, client })
    }

    /// One call. `path` starts with a slash, below `/api/v1`, and is safe to stand in a URL.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Json>,
    ) -> Result<Answer, Failure> {
        let mut request = self.request(method, path, query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|e| self.unsent(&e))?;
        self.read(response).await
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/v1{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.client.request(method, url).bearer_auth(self.key.expose_secret())
    }

    fn unsent(&self, error: &reqwest::Error) -> Failure {
        match error.is_builder() {
            true => Failure::Usage("the management key has characters no request can carry".to_owned()),
            false => Failure::Unreachable { base: self.base(), reason: innermost(error) },
        }
    }

    async fn read(&self, response: reqwest::Response) -> Result<Answer, Failure> {
        let status = response.status();
        let text = response.text().await.map_err(|e| self.unsent(&e))?;
        match serde_json::from_str::<Json>(&text) {
            Ok(body) if status.is_success() => Ok(Answer { text, body }),
            Ok(body) if body.pointer("/error/message").is_some_and(Json::is_string) => {
                Err(Failure::Refused(Refusal::read(status.as_u16(), text, &body)))
            }
            _ => Err(Failure::Foreign { base: self.base(), status: status.as_u16() }),
        }
    }

    /// `GET path`.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.call(Method::GET, path, query, None).await
    }

    /// A `GET` whose answer does not end by itself.
    pub(crate) async fn stream(&self, path: &str, query: &[(&str, &str)]) -> Result<Streaming, Failure> {
        let request = self.request(Method::GET, path, query).timeout(STREAM_TIMEOUT);
        let response = request.send().await.map_err(|e| self.unsent(&e))?;
        if response.status().is_success() {
            return Ok(Streaming { base: self.base(), response });
        }
        Err(self.read(response).await.err().unwrap_or(Failure::Foreign { base: self.base(), status: 200 }))
    }

    /// Everything of a list that comes in pages of `per_page`; `items` is where it lies in the answer.
    pub(crate) async fn all(
        &self,
        path: &str,
        query: &[(&str, &str)],
        per_page: usize,
        items: &str,
    ) -> Result<Vec<Json>, Failure> {
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let offset = all.len().to_string();
            let query = [query, &[("offset", offset.as_str())]].concat();
            let mut body = self.get(path, &query).await?.body;
            let page = match body.pointer_mut(items).map(Json::take) {
                Some(Json::Array(page)) => page,
                _ => return Err(Failure::Foreign { base: self.base(), status: 200 }),
            };
            let is_last = page.len() < per_page;
            all.extend(page);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    fn base(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

/// An answer that comes bit by bit.
pub(crate) struct Streaming {
    base: String,
    response: reqwest::Response,
}

impl Streaming {
    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self.response.chunk().await {
            Ok(bytes) => Ok(bytes.map(|bytes| bytes.to_vec())),
            Err(e) => Err(Failure::Unreachable { base: self.base.clone(), reason: innermost(&e) }),
        }
    }
}

impl Refusal {
    fn read(status: u16, text: String, body: &Json) -> Refusal {
        let error = &body["error"];
        let told = |value: &Json| value.as_str().map(str::to_owned);
        let issues = error["metadata"]["issues"].as_array().into_iter().flatten();
        Refusal {
            status,
            message: told(&error["message"]).unwrap_or_default(),
            issues: issues
                .map(|issue| Issue {
                    path: told(&issue["path"]).unwrap_or_default(),
                    message: told(&issue["message"]).unwrap_or_default(),
                    hint: told(&issue["hint"]),
                })
                .collect(),
            test: error["metadata"].get("test").filter(|test| test.is_object()).cloned(),
            text,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            401 | 403 => write!(f, "the gateway refuses the management key: {}", self.message),
            status => write!(f, "the gateway answers {status}: {}", self.message),
        }
    }
}

impl Failure {
    /// The exit code it ends the program with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::Unreachable { .. } | Failure::Foreign { .. } => Exit::Unreachable,
            Failure::Internal(_) => Exit::Internal,
            Failure::Refused(refusal) if refusal.test.is_some() => Exit::No,
            Failure::Refused(refusal) => match refusal.status {
                401 | 403 => Exit::KeyRefused,
                409 => Exit::No,
                503 => Exit::Unreachable,
                400..500 => Exit::Usage,
                _ => Exit::Internal,
            },
        }
    }
}

/// What really went wrong; the layers above only say that something did.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base(url: &str) -> Option<String> {
        Admin::new(url, SecretString::from("k")).ok().map(|admin| admin.base())
    }

    #[test]
    fn the_base_url_may_name_the_api_and_must_be_http() {
        for url in ["http://h:1", "http://h:1/", " http://h:1/api/v1 ", "http://h:1/api/v1/"] {
            assert_eq!(base(url).as_deref(), Some("http://h:1"), "{url}");
        }
        assert_eq!(base("https://h/proxy/api/v1").as_deref(), Some("https://h/proxy"));
        for url in ["", "h:1", "localhost:4320", "ftp://h", "http://h?x=1", "http://"] {
            assert_eq!(base(url), None, "{url}");
        }
    }

    #[test]
    fn an_error_answer_decides_the_exit_code() {
        let refused = |status: u16, metadata: Json| {
            let body = json!({ "error": { "code": status, "message": "m", "metadata": metadata } });
            Failure::Refused(Refusal::read(status, body.to_string(), &body))
        };
        let cases = [
            (400, Exit::Usage),
            (401, Exit::KeyRefused),
            (403, Exit::KeyRefused),
            (404, Exit::Usage),
            (409, Exit::No),
            (413, Exit::Usage),
            (500, Exit::Internal),
            (503, Exit::Unreachable),
        ];
        for (status, exit) in cases {
            assert_eq!(refused(status, Json::Null).exit(), exit, "{status}");
        }
        assert_eq!(refused(400, json!({ "test": { "ok": false } })).exit(), Exit::No);
        let issues = json!({ "issues": [{ "path": "a", "message": "b", "hint": "c" }, { "path": "d" }, 7] });
        let Failure::Refused(refusal) = refused(400, issues) else { panic!("a refusal") };
        assert_eq!(refusal.issues.len(), 3);
        assert_eq!(refusal.issues[0].hint.as_deref(), Some("c"));
    }
}
