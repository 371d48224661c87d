//! The answer: by status, and for SQL errors by state and code.

use std::time::Duration;

use serde_json::Value as Json;

use super::request::Target;
use crate::family::answer::{self, speaks_of_size};
use crate::family::http::Reply;
use crate::family::probe::Verdict;
use crate::family::redact::Redactor;
use crate::{Answer, Diagnosis};

/// A statement that still runs is asked for again after this.
const ASK_AFTER: Duration = Duration::from_secs(2);

pub(super) fn answer(reply: &Reply, redactor: &Redactor) -> Answer {
    let mut failure = answer::failure(reply, redactor);
    match reply.status {
        202 => {
            failure.retry_after = Some(ASK_AFTER);
            Answer::Retry(failure)
        }
        // The statement ran into its time, or was cancelled.
        408 => Answer::Retry(failure),
        // Asked for by a handle that is forgotten: the next attempt sends the statement again.
        404 if speaks_of_handle(reply) => Answer::Retry(failure),
        422 => match sql_class(reply) {
            SqlClass::Settings => Answer::Config(failure),
            SqlClass::Passing => Answer::Retry(failure),
            SqlClass::Value => Answer::Isolate { by_size: speaks_of_size(&reply.body), failure },
        },
        _ => answer::classify(reply, redactor),
    }
}

/// The handle of a statement that is still running.
pub(super) fn handle_of_running(reply: &Reply) -> Option<String> {
    if reply.status != 202 {
        return None;
    }
    let body: Json = serde_json::from_slice(&reply.body).ok()?;
    body.get("statementHandle")?.as_str().map(str::to_owned)
}

/// What an SQL error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SqlClass {
    /// Names, rights, warehouse.
    Settings,
    /// Cancelled, interrupted.
    Passing,
    /// A value that its column does not take.
    Value,
}

fn sql_class(reply: &Reply) -> SqlClass {
    let body: Json = serde_json::from_slice(&reply.body).unwrap_or(Json::Null);
    let text = |key: &str| body.get(key).and_then(Json::as_str).unwrap_or_default();
    let (code, state) = (text("code"), text("sqlState"));
    if matches!(state, "57014" | "57P03") || code == "000604" {
        return SqlClass::Passing;
    }
    // 22xxx are data exceptions; the codes are those of failed conversions.
    if state.starts_with("22") || matches!(code, "100037" | "100038" | "100069" | "100078" | "100132") {
        return SqlClass::Value;
    }
    let is_settings = matches!(code, "002003" | "002043" | "000904" | "000606" | "003001" | "001003")
        || ["42", "02", "28"].iter().any(|class| state.starts_with(class));
    if is_settings { SqlClass::Settings } else { SqlClass::Value }
}

fn speaks_of_handle(reply: &Reply) -> bool {
    String::from_utf8_lossy(&reply.body).to_ascii_lowercase().contains("statement")
}

pub(super) fn verdict(reply: &Reply, target: &Target, redactor: &Redactor) -> Verdict {
    let mut verdict =
        Verdict::reply(reply, redactor, "the table is there with every column; nothing was stored");
    let advice = match reply.status {
        200..300 => {
            let missing = missing_columns(reply, target);
            if !missing.is_empty() {
                verdict.diagnosis = Diagnosis::Schema;
                verdict.hint = format!("the table lacks the columns {}", missing.join(", "));
            }
            return verdict;
        }
        401 => "the token is expired, or no network policy of its user lets this machine in",
        403 => "the token's role needs USAGE on database, schema and warehouse, and INSERT on the table",
        404 => {
            "the account identifier is wrong: it is the part of the address before .snowflakecomputing.com"
        }
        422 => {
            let settings = sql_class(reply) == SqlClass::Settings;
            verdict.diagnosis = if settings { Diagnosis::Schema } else { Diagnosis::Rejected };
            "check database, schema, table and warehouse: names count in upper case unless they are in double quotes"
        }
        _ => return verdict,
    };
    verdict.hint.push_str("; ");
    verdict.hint.push_str(advice);
    verdict
}

/// Columns that are written and that the table (`DESCRIBE TABLE`: a row per column, its name first) does not have.
fn missing_columns(reply: &Reply, target: &Target) -> Vec<&'static str> {
    let body: Json = serde_json::from_slice(&reply.body).unwrap_or(Json::Null);
    let Some(rows) = body.get("data").and_then(Json::as_array) else { return Vec::new() };
    let names: Vec<&str> = rows.iter().filter_map(|row| row.get(0)?.as_str()).collect();
    target.columns.iter().map(|column| column.name()).filter(|name| !names.contains(name)).collect()
}
