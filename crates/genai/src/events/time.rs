//! Times of an event: RFC 3339, or Unix time in the unit its size tells.

use serde_json::{Number, Value};

use super::Fault;
use crate::usage::kind_of;

/// Unix nanoseconds; `None` if the field is absent.
pub(super) fn read(value: Option<Value>, path: &str) -> Result<Option<u64>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => of_number(&number).map(Some).ok_or_else(|| out_of_range(path)),
        Some(Value::String(text)) => of_text(text.trim(), path).map(Some),
        Some(other) => {
            let message = format!("expected RFC 3339 text or a Unix time, got {}", kind_of(&other));
            Err(Fault::new(path, message))
        }
    }
}

fn out_of_range(path: &str) -> Fault {
    Fault::new(path, "time out of range: expected one after 1970 and before 2554")
}

fn of_text(text: &str, path: &str) -> Result<u64, Fault> {
    if let Ok(number) = text.parse::<Number>() {
        return of_number(&number).ok_or_else(|| out_of_range(path));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        let message = "not a time: expected RFC 3339 with an offset (2026-09-28T14:31:12Z) or a Unix time";
        Fault::new(path, message)
    })?;
    u64::try_from(time.as_nanosecond()).ok().filter(|nanos| *nanos > 0).ok_or_else(|| out_of_range(path))
}

/// By magnitude: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds.
fn of_number(number: &Number) -> Option<u64> {
    let scale = |size: f64| match size {
        size if size < 1e11 => 1_000_000_000u64,
        size if size < 1e14 => 1_000_000,
        size if size < 1e17 => 1_000,
        _ => 1,
    };
    let nanos = match number.as_u64() {
        Some(whole) => whole.checked_mul(scale(whole as f64))?,
        None => {
            let time = number.as_f64().filter(|time| *time > 0.0)?;
            let scale = scale(time) as f64;
            // Whole and fraction apart: a double holds today's nanoseconds only to a quarter microsecond.
            let nanos = time.trunc() as u128 * scale as u128 + (time.fract() * scale).round() as u128;
            u64::try_from(nanos).ok()?
        }
    };
    (nanos > 0).then_some(nanos)
}
