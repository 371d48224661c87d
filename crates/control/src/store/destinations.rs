//! Rows of the `destinations` table: the plain part as JSON, the secrets sealed.
//!
//! Deleting is soft (the id and what it was stay known to whoever reads the books) but takes the secrets away.

use jiff::Timestamp;
use serde_json::Value as Json;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tracecast_destination::Destination;
use uuid::Uuid;
use zeroize::{Zeroize as _, Zeroizing};

use super::damaged;
use super::seal::Sealer;
use crate::model::{Entry, MANAGED_BY, wire_name};

pub(super) async fn load(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query("SELECT id, plain, secrets, retired, paused FROM destinations WHERE deleted_at IS NULL")
        .fetch_all(connection)
        .await?
        .iter()
        .map(|row| read(row, sealer))
        .collect()
}

fn read(row: &SqliteRow, sealer: &Sealer) -> Result<Entry, sqlx::Error> {
    let id_text: &str = row.try_get("id")?;
    let failed = |reason: &dyn std::fmt::Display| damaged("destination", id_text, reason);
    let id = Uuid::try_parse(id_text).map_err(|error| failed(&error))?;
    let plain: Json = serde_json::from_str(row.try_get("plain")?).map_err(|error| failed(&error))?;
    let sealed: &[u8] = row.try_get("secrets")?;
    let secrets_text = sealer.open(id.as_bytes(), sealed).map_err(|error| failed(&error))?;
    // The parser's own message could quote a secret.
    let mut secrets: Json =
        serde_json::from_slice(&secrets_text).map_err(|_| failed(&"the sealed value is not JSON"))?;
    let destination = Destination::from_stored(&plain, &secrets);
    wipe(&mut secrets);
    let destination = destination.map_err(|issues| {
        let reasons: Vec<String> =
            issues.iter().map(|issue| format!("{}: {}", issue.path, issue.message)).collect();
        failed(&reasons.join("; "))
    })?;
    Ok(Entry {
        destination: destination.into(),
        paused: row.try_get("paused")?,
        retired: row.try_get("retired")?,
    })
}

pub(super) async fn put(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
    entry: &Entry,
) -> Result<(), sqlx::Error> {
    let destination = &entry.destination;
    let id = destination.id.to_string();
    let (plain, mut secrets) = destination.to_stored();
    let secrets_text = serde_json::to_vec(&secrets).map(Zeroizing::new);
    wipe(&mut secrets);
    let secrets_text = secrets_text.map_err(|_| damaged("destination", &id, "its secrets are not JSON"))?;
    let sealed = sealer
        .seal(destination.id.as_bytes(), &secrets_text)
        .map_err(|_| damaged("destination", &id, "its secrets cannot be sealed"))?;
    sqlx::query(
        "INSERT INTO destinations
           (id, workspace_id, type, name, plain, secrets, managed_by, retired, paused, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET
           workspace_id = excluded.workspace_id, type = excluded.type, name = excluded.name,
           plain = excluded.plain, secrets = excluded.secrets, managed_by = excluded.managed_by,
           retired = excluded.retired, paused = excluded.paused, created_at = excluded.created_at,
           updated_at = excluded.updated_at, deleted_at = NULL",
    )
    .bind(&id)
    .bind(destination.workspace_id.to_string())
    .bind(destination.config.kind().as_str())
    .bind(&destination.name)
    .bind(plain.to_string())
    .bind(sealed)
    .bind(wire_name(MANAGED_BY, &destination.managed_by))
    .bind(entry.retired)
    .bind(entry.paused)
    .bind(destination.created_at.to_string())
    .bind(destination.updated_at.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    id: Uuid,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE destinations SET deleted_at = ?, secrets = NULL WHERE id = ?")
        .bind(at.to_string())
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Overwrites every string of a value that held secrets.
fn wipe(value: &mut Json) {
    match value {
        Json::String(text) => text.zeroize(),
        Json::Array(items) => items.iter_mut().for_each(wipe),
        Json::Object(fields) => fields.values_mut().for_each(wipe),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}
