//! Rows of the `answers` table: what a repeated request is answered, kept in the transaction that made the write.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::damaged;
use crate::hex;
use crate::model::{KeyHash, now};

/// How long a repeat is recognised.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);

/// A request that its caller named, so that a repeat of it can be told from a new one.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    pub(crate) caller: KeyHash,
    /// The `Idempotency-Key`.
    pub(crate) token: String,
    /// Of path, query and body; see [`super::Store::fingerprint`].
    pub(crate) fingerprint: [u8; 32],
}

/// A status and a JSON body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Json,
}

/// What is known under a token.
#[derive(Debug)]
pub(crate) enum Found {
    /// The same request: this is the answer.
    Answer(Answer),
    OtherRequest,
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: &RequestId,
) -> Result<Option<Found>, sqlx::Error> {
    let row =
        sqlx::query("SELECT request, status, body FROM answers WHERE caller = ? AND token = ? AND at > ?")
            .bind(hex::encode(&id.caller))
            .bind(&id.token)
            .bind(sortable(oldest_kept()))
            .fetch_optional(connection)
            .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let request: &str = row.try_get("request")?;
    if request != hex::encode(&id.fingerprint) {
        return Ok(Some(Found::OtherRequest));
    }
    let body: &str = row.try_get("body")?;
    let body = serde_json::from_str(body).map_err(|error| damaged("answer", &id.token, error))?;
    Ok(Some(Found::Answer(Answer { status: row.try_get("status")?, body })))
}

/// Keeps an answer, and forgets those that are too old to be asked for.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    id: &RequestId,
    answer: &Answer,
) -> Result<(), sqlx::Error> {
    prune(connection).await?;
    sqlx::query("INSERT INTO answers (caller, token, request, status, body, at) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(hex::encode(&id.caller))
        .bind(&id.token)
        .bind(hex::encode(&id.fingerprint))
        .bind(answer.status)
        .bind(answer.body.to_string())
        .bind(sortable(now()))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn prune(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM answers WHERE at <= ?")
        .bind(sortable(oldest_kept()))
        .execute(connection)
        .await?;
    Ok(())
}

fn oldest_kept() -> Timestamp {
    now().checked_sub(KEPT_FOR).unwrap_or(Timestamp::MIN)
}

fn sortable(at: Timestamp) -> String {
    format!("{at:.3}")
}
