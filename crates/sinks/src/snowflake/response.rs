//! The answer: by status, and for SQL errors by state and code.

use std::time::Duration;

use serde_json::Value as Json;

use super::request::Target;
use crate::family::answer::{self, speaks_of_size};
use crate::family::http::Reply;
use crate::family::probe::{self, Verdict};
use crate::family::redact::Redactor;
use crate::family::rows::Column;
use crate::{Answer, Diagnosis};

/// A statement that still runs is asked for again after this.
const ASK_AFTER: Duration = Duration::from_secs(2);
const RIGHTS: &str =
    "the token's role needs USAGE on database, schema and warehouse, and INSERT on the table";

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
        422 => match sql_error(reply) {
            SqlError::Rights => Answer::Auth(failure),
            SqlError::Absent | SqlError::Warehouse | SqlError::Settings => Answer::Config(failure),
            SqlError::Passing => Answer::Retry(failure),
            SqlError::Value => Answer::Isolate { by_size: speaks_of_size(&reply.body), failure },
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
enum SqlError {
    /// No such database, schema or table, or no right to see it: Snowflake does not tell these apart.
    Absent,
    Rights,
    Warehouse,
    /// Another thing that no data can be right for.
    Settings,
    /// Cancelled, interrupted.
    Passing,
    /// A value that its column does not take.
    Value,
}

fn sql_error(reply: &Reply) -> SqlError {
    let body: Json = serde_json::from_slice(&reply.body).unwrap_or(Json::Null);
    let text = |key: &str| body.get(key).and_then(Json::as_str).unwrap_or_default();
    match (text("code"), text("sqlState")) {
        ("000606", _) => SqlError::Warehouse,
        (_, "57014" | "57P03") | ("000604", _) => SqlError::Passing,
        // 22xxx are data exceptions; the codes are those of failed conversions.
        (_, state) if state.starts_with("22") => SqlError::Value,
        ("100037" | "100038" | "100069" | "100078" | "100132", _) => SqlError::Value,
        ("003001", _) | (_, "42501") => SqlError::Rights,
        ("002003" | "002043", _) | (_, "42S02" | "02000") => SqlError::Absent,
        ("000904" | "001003", _) => SqlError::Settings,
        (_, state) if ["42", "02", "28"].iter().any(|class| state.starts_with(class)) => SqlError::Settings,
        _ => SqlError::Value,
    }
}

fn speaks_of_handle(reply: &Reply) -> bool {
    String::from_utf8_lossy(&reply.body).to_ascii_lowercase().contains("statement")
}

/// What the description of the table says.
pub(super) fn described(reply: &Reply, target: &Target, redactor: &Redactor) -> Verdict {
    let mut verdict = verdict(reply, target, redactor);
    if reply.status != 200 || verdict.diagnosis != Diagnosis::Ok {
        return verdict;
    }
    let Some(missing) = missing_columns(reply, target) else {
        let hint = "the answer describes no table: this is not the SQL API of Snowflake, check the address";
        return Verdict::new(Some(reply.status), Diagnosis::NotFound, hint);
    };
    if !missing.is_empty() {
        verdict.diagnosis = Diagnosis::Schema;
        verdict.hint = format!("the table lacks the columns {}", missing.join(", "));
        if missing == [Column::CacheWriteTokens.name()] {
            verdict.hint.push_str(&format!("; add it with: {}", target.add_cache_write_tokens()));
        }
    }
    verdict
}

/// What the answer to a statement of a test says.
pub(super) fn verdict(reply: &Reply, target: &Target, redactor: &Redactor) -> Verdict {
    let ok_hint = "the table is there with every column and may be written to; nothing was stored";
    if reply.status != 422 {
        let advice = [
            (401, "the token is expired or unknown, or no network policy of its user lets this machine in"),
            (403, RIGHTS),
            (
                404,
                "the account identifier is wrong: it is the part of the address before .snowflakecomputing.com",
            ),
        ];
        return probe::verdict(reply, redactor, ok_hint, &advice);
    }
    let (diagnosis, advice) = match sql_error(reply) {
        SqlError::Absent => (
            Diagnosis::NotFound,
            format!(
                "check database, schema and table (names count in upper case unless they are in double quotes) and that \
                 the token's role may use them, or make the table with: {}",
                target.create_table()
            ),
        ),
        SqlError::Rights => (Diagnosis::Auth, RIGHTS.to_owned()),
        SqlError::Warehouse => (
            Diagnosis::NotFound,
            "check config.warehouse, and that the token's role has USAGE on it".to_owned(),
        ),
        SqlError::Settings => {
            (Diagnosis::Schema, "compare the table's columns with those of the documentation".to_owned())
        }
        SqlError::Passing => (Diagnosis::Unavailable, "try again later".to_owned()),
        SqlError::Value => (Diagnosis::Rejected, "the statement itself was refused".to_owned()),
    };
    let said = answer::failure(reply, redactor).message;
    Verdict::new(Some(reply.status), diagnosis, format!("{said}; {advice}"))
}

/// Columns that are written and that the table (`DESCRIBE TABLE`: a row per column, its name first) does not have.
fn missing_columns(reply: &Reply, target: &Target) -> Option<Vec<&'static str>> {
    let body: Json = serde_json::from_slice(&reply.body).ok()?;
    let names: Vec<&str> =
        body.get("data")?.as_array()?.iter().filter_map(|row| row.get(0)?.as_str()).collect();
    Some(target.columns.iter().map(|column| column.name()).filter(|name| !names.contains(name)).collect())
}
