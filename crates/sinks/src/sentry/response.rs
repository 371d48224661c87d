//! The answer: by status, and by the rate limits that any answer may carry.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::family::answer;
use crate::family::http::Reply;
use crate::family::redact::Redactor;
use crate::{Answer, Failure};

/// A 429 that names no time means this.
const LIMIT_DEFAULT: Duration = Duration::from_secs(60);
/// Longer limits are asked again after this.
const LIMIT_MAX: Duration = Duration::from_secs(3600);

/// Until when the relay wants no spans. Sentry asks its SDKs to throw away what is limited; here it waits.
#[derive(Debug, Default)]
pub(super) struct Limit(Mutex<Option<Instant>>);

impl Limit {
    /// The answer to a batch that must not be sent yet.
    pub(super) fn hold(&self) -> Option<Answer> {
        let left = self.until()?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let message = "an earlier answer limits spans (x-sentry-rate-limits)".to_owned();
        Some(Answer::Retry(Failure { status: None, message, retry_after: Some(left) }))
    }

    /// The class of an answer; a limit in it holds for what is sent next, whatever became of this.
    pub(super) fn answer(&self, reply: &Reply, redactor: &Redactor) -> Answer {
        let limit = spans_limited(reply);
        if let Some(limit) = limit {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Instant::now() + limit.min(LIMIT_MAX));
        }
        match answer::classify(reply, redactor) {
            Answer::Retry(failure) if reply.status == 429 => {
                let wait = limit.max(failure.retry_after).unwrap_or(LIMIT_DEFAULT);
                Answer::Retry(Failure { retry_after: Some(wait), ..failure })
            }
            class => class,
        }
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest limit on spans in `X-Sentry-Rate-Limits: seconds:categories:scope:reason, ...`.
fn spans_limited(reply: &Reply) -> Option<Duration> {
    let value = reply.headers.get("x-sentry-rate-limits")?.to_str().ok()?;
    let of = |limit: &str| {
        let mut parts = limit.trim().split(':');
        let seconds: f64 = parts.next()?.trim().parse().ok()?;
        let categories = parts.next().unwrap_or_default();
        let is_ours = categories.is_empty()
            || categories.split(';').any(|category| matches!(category.trim(), "span" | "transaction"));
        Duration::try_from_secs_f64(seconds).ok().filter(|limit| is_ours && !limit.is_zero())
    };
    value.split(',').filter_map(of).max()
}
