//! `clickhouse`: one row per span over the HTTP interface, by the official client.
//!
//! Contract: broadcast-contract.md 7.1 (columns), ClickHouse documentation (HTTP interface, insert
//! strategy, deduplication), `ErrorCodes.cpp`; sinks-infrastructure.md 7, 10.5.
//!
//! | | |
//! | --- | --- |
//! | what to enter | `host` with its port, database, user with the right to insert, table; `shouldIncludeCacheWriteTokens` for a table of version 2 |
//! | URL | `host`; without a scheme port 8443 means https, 8123 http. `table` may be `db.table` |
//! | auth | `X-ClickHouse-User` and `X-ClickHouse-Key` |
//! | what arrives | a row a span in OpenRouter's columns: ids, user, session, key, times, model, provider, tokens, costs, status; `INPUT`, `OUTPUT`, `METADATA`, `MODEL_PARAMETERS`, `ATTRIBUTES` as JSON; `TAGS` |
//! | columns | read with `DESCRIBE TABLE`, kept until the server complains; what both sides know is sent, named in the `INSERT`. `TRACE_ID`, `SPAN_ID`, `TIMESTAMP` must exist. `CACHE_WRITE_TOKENS` only with `shouldIncludeCacheWriteTokens` |
//! | body | `JSONEachRow`; LZ4 blocks unless the host is near. Times are sent as UTC text and read whatever the server's time zone |
//! | once only | `insert_deduplication_token` is the batch's token; [`CREATE_TABLE`] makes the table honour it |
//! | waiting | synchronous inserts (`async_insert=0`, `wait_end_of_query=1`): success means stored |
//! | limits | 10,000 rows, 16 MiB, 1 s, 2 at a time: about one insert per second and table, as ClickHouse asks |
//! | errors | by code, not by status (`response.rs`) |
//! | privacy | `INPUT`, `OUTPUT`, content among `ATTRIBUTES` and the messages of errors are not sent |
//! | test | the columns, then an `INSERT ... SELECT ... WHERE 0`, which needs the grant and writes nothing; where there is no table the hint is the statement that makes it |
//!
//! `Sent::bytes` counts the rows before LZ4: the client library does not tell the compressed size.

mod request;
mod response;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracecast_destination::ClickhouseConfig;

use self::request::Target;
use self::response::Trouble;
use self::schema::Table;
use crate::family::{answer, offload, probe};
use crate::{Adapter, Answer, Batch, BatchLimits, BuildError, Clients, Preview, Sent, TestReport};

/// The table for new users: all columns of version 1, ids and times that make a repeated delivery
/// collapse, and a window in which a repeated insert is recognised by its token.
pub const CREATE_TABLE: &str = "\
CREATE TABLE IF NOT EXISTS OPENROUTER_TRACES (
  TRACE_ID String,
  SPAN_ID String,
  PARENT_SPAN_ID Nullable(String),
  USER_ID Nullable(String),
  SESSION_ID Nullable(String),
  ORGANIZATION_ID Nullable(String),
  ENTITY_ID String,
  API_KEY_NAME Nullable(String),
  TIMESTAMP DateTime64(3, 'UTC'),
  START_TIME DateTime64(3, 'UTC'),
  END_TIME Nullable(DateTime64(3, 'UTC')),
  DURATION_MS Nullable(Float64),
  MODEL Nullable(String),
  PROVIDER_NAME Nullable(String),
  PROVIDER_SLUG Nullable(String),
  STATUS LowCardinality(String),
  LEVEL LowCardinality(String),
  FINISH_REASON Nullable(String),
  PROMPT_TOKENS UInt64,
  COMPLETION_TOKENS UInt64,
  TOTAL_TOKENS UInt64,
  CACHED_TOKENS UInt64,
  REASONING_TOKENS UInt64,
  INPUT_COST Nullable(Decimal(18, 8)),
  OUTPUT_COST Nullable(Decimal(18, 8)),
  TOTAL_COST Nullable(Decimal(18, 8)),
  INPUT_UNIT_PRICE Nullable(Decimal(18, 10)),
  OUTPUT_UNIT_PRICE Nullable(Decimal(18, 10)),
  SPAN_TYPE LowCardinality(String),
  SPAN_KIND LowCardinality(String),
  OPERATION_NAME LowCardinality(String),
  ATTRIBUTES String CODEC(ZSTD(3)),
  INPUT String CODEC(ZSTD(3)),
  OUTPUT String CODEC(ZSTD(3)),
  METADATA String CODEC(ZSTD(3)),
  TAGS Array(String),
  MODEL_PARAMETERS String CODEC(ZSTD(1)),
  RESOURCE_ATTRIBUTES String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(TIMESTAMP)
ORDER BY (TIMESTAMP, TRACE_ID, SPAN_ID)
SETTINGS non_replicated_deduplication_window = 1000";

/// [`CREATE_TABLE`] for a table of another name, on one line: what a connection test offers.
fn create_table(table: &str) -> String {
    let name = request::identifier(table);
    let lines: Vec<&str> = CREATE_TABLE.lines().map(str::trim).collect();
    lines.join(" ").replacen("OPENROUTER_TRACES", &name, 1)
}

/// Version 2 of the table: run this first, then set `shouldIncludeCacheWriteTokens`.
pub const ADD_CACHE_WRITE_TOKENS: &str =
    "ALTER TABLE OPENROUTER_TRACES ADD COLUMN IF NOT EXISTS CACHE_WRITE_TOKENS UInt64 AFTER REASONING_TOKENS";

const LIMITS: BatchLimits = BatchLimits {
    spans_max: 10_000,
    bytes_max: 16 << 20,
    age_max: Duration::from_secs(1),
    concurrency_max: 2,
};

/// The adapter.
#[derive(Debug)]
pub struct Clickhouse {
    target: Target,
    table: Mutex<Option<Arc<Table>>>,
}

impl Clickhouse {
    /// Checks the host and the headers; opens no connection.
    pub fn new(config: &ClickhouseConfig, clients: &Clients) -> Result<Self, BuildError> {
        Ok(Clickhouse { target: Target::new(config, clients)?, table: Mutex::new(None) })
    }

    fn known_table(&self) -> Option<Arc<Table>> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.clone()
    }

    fn set_table(&self, table: Option<Arc<Table>>) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
    }

    /// The columns, from memory or from the server.
    async fn table(&self) -> Result<Arc<Table>, Trouble> {
        if let Some(table) = self.known_table() {
            return Ok(table);
        }
        let described = self.target.describe().await?;
        let table = Table::read(&described, self.target.cache_write_tokens);
        let table = Arc::new(table.map_err(Trouble::Schema)?);
        self.set_table(Some(table.clone()));
        Ok(table)
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        let (result, damaged, bytes) = match self.table().await {
            Err(trouble) => (Err(trouble), Vec::new(), 0),
            Ok(table) => {
                let columns = table.clone();
                let body = offload::encode(batch, move |batch| request::body(batch, &columns)).await;
                let bytes = body.bytes.len() as u64;
                if body.bytes.is_empty() {
                    (Ok(()), body.damaged, 0)
                } else {
                    let result = self.target.insert(&table, batch, body.bytes).await;
                    (result, body.damaged, bytes)
                }
            }
        };
        let answer = match result {
            Ok(()) => Answer::Delivered,
            Err(trouble) => {
                if trouble.concerns_columns() {
                    self.set_table(None);
                }
                response::answer(&trouble, batch.attempt, &self.target.redactor)
            }
        };
        Sent { answer: answer::with_damaged(batch, &damaged, answer), bytes }
    }

    async fn probe(&self) -> probe::Verdict {
        // The test is there to see the table as it is now.
        self.set_table(None);
        let result = match self.table().await {
            Ok(table) => self.target.try_insert().await.map(|()| table),
            Err(trouble) => Err(trouble),
        };
        match result {
            Ok(table) => probe::Verdict::ok(Some(200), &table.summary()),
            Err(trouble) => response::verdict(&trouble, &self.target),
        }
    }
}

impl Adapter for Clickhouse {
    fn limits(&self) -> BatchLimits {
        LIMITS
    }

    fn keeps_batches(&self) -> bool {
        true
    }

    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Sent> {
        Box::pin(self.send_once(batch))
    }

    fn test<'a>(&'a self) -> BoxFuture<'a, TestReport> {
        Box::pin(probe::run(self.target.shown_url(), self.probe()))
    }

    /// With the columns known so far, else with those of [`CREATE_TABLE`].
    fn preview(&self, batch: &Batch) -> Vec<Preview> {
        let table = self
            .known_table()
            .unwrap_or_else(|| Arc::new(Table::default_columns(self.target.cache_write_tokens)));
        let body = request::body(batch, &table).bytes;
        vec![self.target.preview(&table, &batch.token, body)]
    }
}
