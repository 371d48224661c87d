//! The store: one SQLite file, written by one connection, read once at start.
//!
//! All SQL is in this module. Writes are lists of [`Change`]s and audit entries, as many of them in one transaction as
//! have come together.

mod answers;
mod audit;
mod destinations;
mod keys;
mod schema;
mod seal;
mod usage;
mod workspaces;

use std::fs::File;
use std::path::Path;

use jiff::Timestamp;
use secrecy::SecretString;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use uuid::Uuid;

use crate::Error;
use crate::model::{Change, Model, now};

pub(crate) use answers::{Answer, Found, RequestId};
pub(crate) use audit::Audit;
use seal::Sealer;

/// A write as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) changes: &'a [Change],
    pub(crate) audit: &'a [Audit],
    /// What a repeat of the request is answered.
    pub(crate) kept: Option<(&'a RequestId, &'a Answer)>,
}

/// The open store.
#[derive(Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
    sealer: Sealer,
    /// Held while the store is open.
    _lock: File,
}

impl Store {
    /// Opens or creates the store in `data_dir`.
    pub(crate) async fn open(data_dir: &Path, master_key: Option<&SecretString>) -> Result<Store, Error> {
        schema::prepare_dir(data_dir)?;
        let lock = schema::lock(data_dir)?;
        let pool = schema::connect(data_dir).await?;
        let sealer = schema::sealer(&pool, data_dir, master_key).await?;
        answers::prune(&mut *pool.acquire().await?).await?;
        Ok(Store { pool, sealer, _lock: lock })
    }

    /// Everything that is not deleted.
    pub(crate) async fn load(&self) -> Result<Model, Error> {
        let mut connection = self.pool.acquire().await?;
        let generation: Option<i64> = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'generation'")
            .fetch_optional(&mut *connection)
            .await?;
        let last_key_id: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'keys'")
                .fetch_optional(&mut *connection)
                .await?;
        let mut model = Model {
            generation: generation.unwrap_or(0).unsigned_abs(),
            next_key_id: last_key_id.unwrap_or(0).saturating_add(1),
            ..Model::default()
        };
        for workspace in workspaces::load(&mut connection).await? {
            model.apply(&Change::Workspace(workspace.into()));
        }
        for entry in destinations::load(&mut connection, &self.sealer).await? {
            model.apply(&Change::Destination(entry));
        }
        for key in keys::load(&mut connection).await? {
            model.apply(&Change::Key(key.into()));
        }
        usage::load(&mut connection, &model.usage, now()).await?;
        Ok(model)
    }

    /// Adds to what the keys spent, all or nothing.
    pub(crate) async fn add_usage(&self, sums: &crate::usage::Unsaved) -> Result<(), sqlx::Error> {
        usage::add(&self.pool, sums).await
    }

    /// Commits writes as a whole, or fails without a trace; `generation` is that of the last of them.
    pub(crate) async fn commit(&self, generation: u64, writes: &[Record<'_>]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('generation', ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        )
        .bind(i64::try_from(generation).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
        for write in writes {
            for change in write.changes {
                self.write(&mut transaction, change).await?;
            }
            for entry in write.audit {
                entry.write(&mut transaction).await?;
            }
            if let Some((request, answer)) = write.kept {
                answers::put(&mut transaction, request, answer).await?;
            }
        }
        transaction.commit().await
    }

    /// What was kept for the request, if it was made before.
    pub(crate) async fn find_answer(&self, request: &RequestId) -> Result<Option<Found>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        answers::find(&mut connection, request).await
    }

    /// A hash of a request that tells nothing about it without the master key.
    pub(crate) fn fingerprint(&self, request: &[u8]) -> [u8; 32] {
        self.sealer.fingerprint(request)
    }

    /// For tests that make it fail.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    async fn write(&self, connection: &mut SqliteConnection, change: &Change) -> Result<(), sqlx::Error> {
        match change {
            Change::Workspace(workspace) => workspaces::put(connection, workspace).await,
            Change::WorkspaceDeleted(id) => workspaces::delete(connection, *id, now()).await,
            Change::Destination(entry) => destinations::put(connection, &self.sealer, entry).await,
            Change::DestinationDeleted(id) => destinations::delete(connection, *id, now()).await,
            Change::Key(key) => keys::put(connection, key).await,
            Change::KeyDeleted(hash) => keys::delete(connection, hash).await,
        }
    }

    /// Whether the workspace once existed and was deleted.
    pub(crate) async fn is_workspace_deleted(&self, id: Uuid) -> Result<bool, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        workspaces::is_deleted(&mut connection, id).await
    }

    /// A page of the audit log, newest first, and how many entries there are.
    pub(crate) async fn audit_log(
        &self,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<Audit>, usize), sqlx::Error> {
        audit::page(&self.pool, offset, limit).await
    }

    /// Closes the connection, which also folds the WAL into the file.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Opens what needs no secrets: the lock, the file, the schema.
pub(crate) async fn open_without_secrets(data_dir: &Path) -> Result<(File, SqlitePool), Error> {
    schema::prepare_dir(data_dir)?;
    let lock = schema::lock(data_dir)?;
    Ok((lock, schema::connect(data_dir).await?))
}

/// The workspaces of a store, whether or not a gateway has it open; `None` if there is no store yet.
pub(crate) async fn workspaces_of(data_dir: &Path) -> Result<Option<Vec<crate::model::Workspace>>, Error> {
    if !data_dir.join(schema::STORE_FILE).exists() {
        return Ok(None);
    }
    let mut connection = schema::connect_read_only(data_dir).await?;
    let found = workspaces::load(&mut connection).await?;
    connection.close().await?;
    Ok(Some(found))
}

/// Replaces all management keys by this one.
pub(crate) async fn replace_management_keys(
    pool: &SqlitePool,
    key: &crate::model::Key,
    audit: &Audit,
) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query("DELETE FROM keys WHERE kind = 'management'").execute(&mut *transaction).await?;
    keys::put(&mut transaction, key).await?;
    audit.write(&mut transaction).await?;
    transaction.commit().await
}

/// A stored value that does not read back: somebody else wrote it.
fn damaged(table: &str, id: &str, reason: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("{table} `{id}`: {reason}").into())
}

fn read_time(table: &str, id: &str, text: &str) -> Result<Timestamp, sqlx::Error> {
    text.parse().map_err(|error| damaged(table, id, format_args!("time `{text}`: {error}")))
}
