//! Rows of the `workspaces` table. A deleted workspace stays as a row: destinations and past usage refer to it.

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use super::{damaged, read_time};
use crate::model::Workspace;

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Vec<Workspace>, sqlx::Error> {
    sqlx::query(
        "SELECT id, slug, name, settings, created_at, updated_at, created_by FROM workspaces WHERE deleted_at IS NULL",
    )
    .fetch_all(connection)
    .await?
    .iter()
    .map(read)
    .collect()
}

fn read(row: &SqliteRow) -> Result<Workspace, sqlx::Error> {
    let id: &str = row.try_get("id")?;
    let settings: &str = row.try_get("settings")?;
    let updated_at: Option<&str> = row.try_get("updated_at")?;
    Ok(Workspace {
        id: Uuid::try_parse(id).map_err(|error| damaged("workspace", id, error))?,
        slug: row.try_get("slug")?,
        name: row.try_get("name")?,
        settings: serde_json::from_str(settings).map_err(|error| damaged("workspace", id, error))?,
        created_at: read_time("workspace", id, row.try_get("created_at")?)?,
        updated_at: updated_at.map(|text| read_time("workspace", id, text)).transpose()?,
        created_by: row.try_get("created_by")?,
    })
}

pub(super) async fn put(connection: &mut SqliteConnection, workspace: &Workspace) -> Result<(), sqlx::Error> {
    let settings = serde_json::to_string(&workspace.settings)
        .map_err(|error| damaged("workspace", &workspace.slug, error))?;
    sqlx::query(
        "INSERT INTO workspaces (id, slug, name, settings, created_at, updated_at, created_by)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET
           slug = excluded.slug, name = excluded.name, settings = excluded.settings,
           updated_at = excluded.updated_at, deleted_at = NULL",
    )
    .bind(workspace.id.to_string())
    .bind(&workspace.slug)
    .bind(&workspace.name)
    .bind(settings)
    .bind(workspace.created_at.to_string())
    .bind(workspace.updated_at.map(|at| at.to_string()))
    .bind(&workspace.created_by)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete(
    connection: &mut SqliteConnection,
    id: Uuid,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE workspaces SET deleted_at = ? WHERE id = ?")
        .bind(at.to_string())
        .bind(id.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether the workspace once existed and was deleted.
pub(super) async fn is_deleted(connection: &mut SqliteConnection, id: Uuid) -> Result<bool, sqlx::Error> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM workspaces WHERE id = ? AND deleted_at IS NOT NULL")
            .bind(id.to_string())
            .fetch_optional(connection)
            .await?;
    Ok(found.is_some())
}
