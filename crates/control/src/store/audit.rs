//! Rows of the `audit` table: who wrote what and when, with the names of the fields and never their values.

use std::borrow::Cow;

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqlitePool};

use super::{damaged, read_time};

/// One entry of the audit log.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    pub(crate) at: Timestamp,
    /// Label of the key, or what else wrote (`config file`, `first start`).
    pub(crate) actor: String,
    /// `destination.create`, `key.update`, ...
    pub(crate) action: Cow<'static, str>,
    /// Id or hash.
    pub(crate) target: String,
    /// Names of the fields given.
    pub(crate) fields: Vec<String>,
    /// What the caller said about itself in the attribution headers.
    pub(crate) client: Option<String>,
}

impl Audit {
    pub(super) async fn write(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let fields = serde_json::to_string(&self.fields)
            .map_err(|error| damaged("audit entry", &self.target, error))?;
        sqlx::query(
            "INSERT INTO audit (at, actor, action, target, fields, client) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(self.at.to_string())
        .bind(&self.actor)
        .bind(self.action.as_ref())
        .bind(&self.target)
        .bind(fields)
        .bind(&self.client)
        .execute(connection)
        .await?;
        Ok(())
    }
}

pub(super) async fn page(
    pool: &SqlitePool,
    offset: usize,
    limit: usize,
) -> Result<(Vec<Audit>, usize), sqlx::Error> {
    let bound = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let total: i64 = sqlx::query_scalar("SELECT count(*) FROM audit").fetch_one(pool).await?;
    let entries = sqlx::query(
        "SELECT at, actor, action, target, fields, client FROM audit ORDER BY id DESC LIMIT ? OFFSET ?",
    )
    .bind(bound(limit))
    .bind(bound(offset))
    .fetch_all(pool)
    .await?
    .iter()
    .map(|row| {
        let target: String = row.try_get("target")?;
        let fields: &str = row.try_get("fields")?;
        Ok(Audit {
            at: read_time("audit entry", &target, row.try_get("at")?)?,
            actor: row.try_get("actor")?,
            action: Cow::Owned(row.try_get("action")?),
            fields: serde_json::from_str(fields).map_err(|error| damaged("audit entry", &target, error))?,
            client: row.try_get("client")?,
            target,
        })
    })
    .collect::<Result<_, sqlx::Error>>()?;
    Ok((entries, usize::try_from(total).unwrap_or(0)))
}
