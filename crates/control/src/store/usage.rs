//! Rows of the `key_usage` table: what a key spent on a UTC day.

use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};

use super::{damaged, read_time};
use crate::hex;
use crate::model::{KeyHash, LimitReset};
use crate::usage::{DayUsage, Ledger, Sums, Unsaved, utc_day, window_start};

/// No sum of a day grows beyond this (100 million USD, or as many events), so that none overflows.
const DAY_MAX: i64 = 100_000_000_000_000_000;

/// Fills the ledger. Days before the windows that hold `now` only count in all, so they come as one sum a key.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    ledger: &Ledger,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let today = utc_day(now);
    let since = window_start(LimitReset::Weekly, today).min(window_start(LimitReset::Monthly, today));
    let rows = sqlx::query(
        // `total` where `sum` could overflow.
        "SELECT hash, max(day) AS day, CAST(total(nano_usd) AS INTEGER) AS nano_usd,
                CAST(total(byok_nano_usd) AS INTEGER) AS byok_nano_usd, CAST(total(events) AS INTEGER) AS events,
                max(last_used) AS last_used
         FROM key_usage WHERE day < ?1 GROUP BY hash
         UNION ALL
         SELECT hash, day, nano_usd, byok_nano_usd, events, last_used FROM key_usage WHERE day >= ?1
         ORDER BY day",
    )
    .bind(since.to_string())
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let (hash, day, usage) = read(row)?;
        ledger.add(hash, day, usage);
    }
    Ok(())
}

fn read(row: &SqliteRow) -> Result<(KeyHash, Date, DayUsage), sqlx::Error> {
    let hash: &str = row.try_get("hash")?;
    let day: &str = row.try_get("day")?;
    let count = |column: &str| row.try_get::<i64, _>(column).map(|n| u64::try_from(n).unwrap_or(0));
    let usage = DayUsage {
        sums: Sums {
            nano_usd: count("nano_usd")?,
            byok_nano_usd: count("byok_nano_usd")?,
            events: count("events")?,
        },
        last_used: read_time("usage of key", hash, row.try_get("last_used")?)?,
    };
    let key = hex::decode(hash).ok_or_else(|| damaged("usage of key", hash, "not a SHA-256"))?;
    let day = day.parse().map_err(|error| damaged("usage of key", hash, format_args!("day: {error}")))?;
    Ok((key, day, usage))
}

/// Adds sums to their rows, all or none.
pub(super) async fn add(pool: &SqlitePool, sums: &Unsaved) -> Result<(), sqlx::Error> {
    let bound = |n: u64| i64::try_from(n).unwrap_or(DAY_MAX).min(DAY_MAX);
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    for ((day, hash), DayUsage { sums, last_used }) in sums {
        sqlx::query(
            "INSERT INTO key_usage (hash, day, nano_usd, byok_nano_usd, events, last_used)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (hash, day) DO UPDATE SET
               nano_usd = min(nano_usd + excluded.nano_usd, ?7),
               byok_nano_usd = min(byok_nano_usd + excluded.byok_nano_usd, ?7),
               events = min(events + excluded.events, ?7),
               last_used = max(last_used, excluded.last_used)",
        )
        .bind(hex::encode(hash))
        .bind(day.to_string())
        .bind(bound(sums.nano_usd))
        .bind(bound(sums.byok_nano_usd))
        .bind(bound(sums.events))
        // Always three digits, so that the texts sort as the times do.
        .bind(format!("{last_used:.3}"))
        .bind(DAY_MAX)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}
