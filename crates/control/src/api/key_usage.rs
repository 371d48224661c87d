//! Counters, limit and budget of a key, as the key object and `GET /key` show them. All money is USD.

use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};

use crate::model::{Key, LimitReset, wire_name};
use crate::usage::{Spent, next_window};

/// The suffix of each window's field names.
const WINDOWS: [(&str, Option<LimitReset>); 4] = [
    ("", None),
    ("_daily", Some(LimitReset::Daily)),
    ("_weekly", Some(LimitReset::Weekly)),
    ("_monthly", Some(LimitReset::Monthly)),
];

/// Limits and counters, common to both objects.
pub(super) fn usage_fields(key: &Key, spent: &Spent, now: Timestamp) -> Map<String, Json> {
    let mut fields = Map::new();
    for (suffix, window) in WINDOWS {
        let sums = spent.sums(window, now);
        fields.insert(format!("usage{suffix}"), sums.usd().into());
        fields.insert(format!("byok_usage{suffix}"), sums.byok_usd().into());
    }
    fields.insert("limit".to_owned(), key.limit_usd.into());
    fields.insert("limit_remaining".to_owned(), remaining(key, spent, now).into());
    let reset = key.limit_reset.map(|reset| wire_name(LimitReset::ALL, &reset));
    fields.insert("limit_reset".to_owned(), reset.into());
    fields.insert("include_byok_in_limit".to_owned(), key.include_byok_in_limit.into());
    fields
}

/// The key's own limit as a budget layer.
pub(super) fn key_limit_budget(key: &Key, spent: &Spent, now: Timestamp) -> Option<Json> {
    let limit_usd = key.limit_usd?;
    let reset = key.limit_reset;
    Some(json!({
        "scope": "key_limit",
        "limit_usd": limit_usd,
        "spend_usd": spent.against_limit(key, now),
        "remaining_usd": remaining(key, spent, now),
        "reset_interval": reset.map(|reset| wire_name(LimitReset::ALL, &reset)),
        "resets_at": reset.and_then(|reset| next_window(reset, now)).map(|at| at.to_string()),
        "include_byok": key.include_byok_in_limit,
        "guardrail_id": null,
        "budget_id": null,
    }))
}

/// What is left of the limit in its window; below 0 once it is overdrawn, `None` without a limit.
fn remaining(key: &Key, spent: &Spent, now: Timestamp) -> Option<f64> {
    let left = key.limit_usd? - spent.against_limit(key, now);
    // To the billionth, in which the spending is counted: 0.3 - 0.1 is 0.2.
    Some(if left.abs() < 1e6 { (left * 1e9).round() / 1e9 } else { left })
}
