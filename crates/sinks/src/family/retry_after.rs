//! `Retry-After`: seconds (whole or fractional) or one of the three HTTP date forms.

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Longer waits are cut to this. Delivery cuts them further, and says so.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long the server asked to wait. Absent, past or unreadable is `None`: use backoff.
///
/// A date is read against the server's own `Date` where it sent one, so that a wrong clock on
/// either side does not turn into a wrong wait.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let now =
        headers.get(header::DATE).and_then(|date| date.to_str().ok()).and_then(http_date).unwrap_or(now);
    parse(value, now)
}

/// A wait in seconds under another name. Absent, zero or unreadable is `None`.
pub(crate) fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let seconds: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|wait| !wait.is_zero()).map(|wait| wait.min(WAIT_MAX))
}

pub(crate) fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    let seconds = if !value.is_empty() && value.chars().all(digits) {
        value.parse::<f64>().ok()?
    } else {
        http_date(value)?.duration_since(now).as_secs_f64()
    };
    if seconds.is_nan() || seconds <= 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX)))
}

fn http_date(text: &str) -> Option<Timestamp> {
    if let Ok(date) = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text) {
        return Some(date);
    }
    // RFC 850 and asctime: obsolete, and a receiver has to read them.
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .iter()
        .find_map(|format| DateTime::strptime(format, text).ok())
        .and_then(|date| date.to_zoned(TimeZone::UTC).ok())
        .map(|date| date.timestamp())
}
