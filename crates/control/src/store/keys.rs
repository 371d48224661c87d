//! Rows of the `keys` table: hashes and what they may do, never a secret.

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use super::{damaged, read_time};
use crate::hex;
use crate::model::{CAN_ASSERT, Key, KeyHash, KeyKind, LimitReset, MANAGED_BY, from_wire, wire_name};

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Vec<Key>, sqlx::Error> {
    sqlx::query("SELECT * FROM keys").fetch_all(connection).await?.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<Key, sqlx::Error> {
    let hash_text: &str = row.try_get("hash")?;
    let failed = |what: &str| damaged("key", hash_text, what);
    let time = |column: &str| -> Result<_, sqlx::Error> {
        row.try_get::<Option<&str>, _>(column)?.map(|text| read_time("key", hash_text, text)).transpose()
    };
    let kind: &str = row.try_get("kind")?;
    let workspace_id: Option<&str> = row.try_get("workspace_id")?;
    let can_assert: &str = row.try_get("can_assert")?;
    let limit_reset: Option<&str> = row.try_get("limit_reset")?;
    let managed_by: &str = row.try_get("managed_by")?;
    Ok(Key {
        id: row.try_get("id")?,
        hash: hex::decode(hash_text).ok_or_else(|| failed("not a SHA-256"))?,
        kind: from_wire(KeyKind::ALL, kind).ok_or_else(|| failed("unknown kind"))?,
        name: row.try_get("name")?,
        label: row.try_get("label")?,
        workspace_id: workspace_id
            .map(Uuid::try_parse)
            .transpose()
            .map_err(|_| failed("the workspace id is not a uuid"))?,
        disabled: row.try_get("disabled")?,
        expires_at: time("expires_at")?,
        can_assert: from_wire(CAN_ASSERT, can_assert).ok_or_else(|| failed("unknown can_assert"))?,
        limit_usd: row.try_get("limit_usd")?,
        limit_reset: limit_reset
            .map(|name| from_wire(LimitReset::ALL, name).ok_or_else(|| failed("unknown limit_reset")))
            .transpose()?,
        include_byok_in_limit: row.try_get("include_byok_in_limit")?,
        creator_user_id: row.try_get("creator_user_id")?,
        external_user: row.try_get("external_user")?,
        managed_by: from_wire(MANAGED_BY, managed_by).ok_or_else(|| failed("unknown managed_by"))?,
        created_at: read_time("key", hash_text, row.try_get("created_at")?)?,
        updated_at: time("updated_at")?,
    })
}

pub(super) async fn put(connection: &mut SqliteConnection, key: &Key) -> Result<(), sqlx::Error> {
    let time = |at: &Option<jiff::Timestamp>| at.map(|at| at.to_string());
    sqlx::query(
        "INSERT INTO keys
           (id, hash, kind, name, label, workspace_id, disabled, expires_at, can_assert, limit_usd, limit_reset,
            include_byok_in_limit, creator_user_id, external_user, managed_by, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (hash) DO UPDATE SET
           name = excluded.name, label = excluded.label, workspace_id = excluded.workspace_id,
           disabled = excluded.disabled, expires_at = excluded.expires_at, can_assert = excluded.can_assert,
           limit_usd = excluded.limit_usd, limit_reset = excluded.limit_reset,
           include_byok_in_limit = excluded.include_byok_in_limit, creator_user_id = excluded.creator_user_id,
           external_user = excluded.external_user, managed_by = excluded.managed_by,
           updated_at = excluded.updated_at",
    )
    // SQLite numbers the row itself when the model gave no number.
    .bind((key.id != 0).then_some(key.id))
    .bind(hex::encode(&key.hash))
    .bind(wire_name(KeyKind::ALL, &key.kind))
    .bind(&key.name)
    .bind(&key.label)
    .bind(key.workspace_id.map(|id| id.to_string()))
    .bind(key.disabled)
    .bind(time(&key.expires_at))
    .bind(wire_name(CAN_ASSERT, &key.can_assert))
    .bind(key.limit_usd)
    .bind(key.limit_reset.map(|reset| wire_name(LimitReset::ALL, &reset)))
    .bind(key.include_byok_in_limit)
    .bind(&key.creator_user_id)
    .bind(&key.external_user)
    .bind(wire_name(MANAGED_BY, &key.managed_by))
    .bind(key.created_at.to_string())
    .bind(time(&key.updated_at))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete(connection: &mut SqliteConnection, hash: &KeyHash) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM keys WHERE hash = ?").bind(hex::encode(hash)).execute(connection).await?;
    Ok(())
}
