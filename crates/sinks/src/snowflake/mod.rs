//! `snowflake`: rows of a table, by the SQL API.
//!
//! Contract: docs.snowflake.com "Snowflake SQL API reference" (requests, bindings, `requestId`, 202), "Programmatic
//! access tokens"; columns of broadcast-contract.md 7.1; sinks-infrastructure.md 8.
//!
//! | | |
//! | --- | --- |
//! | what to enter | account identifier, programmatic access token, database, schema, table, warehouse; `baseUrl` (ours) for a proxy or private link |
//! | URL | `https://{account}.snowflakecomputing.com/api/v2/statements?requestId=...` |
//! | auth | `Authorization: Bearer token`, `X-Snowflake-Authorization-Token-Type: PROGRAMMATIC_ACCESS_TOKEN`. The token's user needs a network policy that lets this machine in |
//! | body | one statement for all rows: a JSON array in one text binding, exploded by `FLATTEN(PARSE_JSON(?))` |
//! | what arrives | a row a span in OpenRouter's columns: ids, user, session, key, times, model, provider, tokens, costs, status; `INPUT`, `OUTPUT` (null where nothing was said), `METADATA`, `MODEL_PARAMETERS`, `ATTRIBUTES` as `VARIANT`; `TAGS`. Texts end at the width of their column (256 characters for ids and names) and stand whole in `ATTRIBUTES` |
//! | names | as `SHOW` prints them: what is not in double quotes is taken in upper case |
//! | limits | 500 rows, 900 KB (statements over 1 MB cannot be found again for a retry), 30 s (each insert wakes the warehouse), one at a time |
//! | identity | `requestId` is made of the batch's token; a retry says `retry=true`, and Snowflake does not run what already ran |
//! | 202 | still running: the next attempt asks for the statement instead of sending it again |
//! | 422 | by SQL state and code: missing table or column, rights and warehouse hold the destination; a bad value is searched for by halving |
//! | privacy | `INPUT`, `OUTPUT` and content among `ATTRIBUTES` are not sent |
//! | table | [`CREATE_TABLE`], and for the column of cache writes [`ADD_CACHE_WRITE_TOKENS`] |
//! | test | `DESCRIBE TABLE`: proves token, network policy, names and columns; then an `INSERT` of no rows, which needs the grant (and wakes the warehouse); where there is no table the hint is the statement that makes it |

mod request;
mod response;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracecast_destination::SnowflakeConfig;

use self::request::Target;
use crate::family::answer::with_damaged;
use crate::family::endpoint::Endpoint;
use crate::family::http::OTLP_BODY_BYTES_MAX;
use crate::family::{offload, probe};
use crate::{Adapter, Answer, Batch, BatchLimits, BuildError, Clients, Diagnosis, Preview, Sent, TestReport};

/// The table for new users: the columns of OpenRouter's, version 1.
pub const CREATE_TABLE: &str = "\
CREATE TABLE IF NOT EXISTS OPENROUTER_TRACES (
  TRACE_ID VARCHAR(128) NOT NULL,
  SPAN_ID VARCHAR(128) NOT NULL,
  PARENT_SPAN_ID VARCHAR(128),
  USER_ID VARCHAR(256),
  SESSION_ID VARCHAR(256),
  ORGANIZATION_ID VARCHAR(256),
  ENTITY_ID VARCHAR(256) NOT NULL,
  API_KEY_NAME VARCHAR(256),
  TIMESTAMP TIMESTAMP_NTZ NOT NULL,
  START_TIME TIMESTAMP_NTZ NOT NULL,
  END_TIME TIMESTAMP_NTZ,
  DURATION_MS NUMBER(18, 3),
  MODEL VARCHAR(256),
  PROVIDER_NAME VARCHAR(128),
  PROVIDER_SLUG VARCHAR(128),
  STATUS VARCHAR(32),
  LEVEL VARCHAR(32),
  FINISH_REASON VARCHAR(64),
  PROMPT_TOKENS NUMBER(18, 0),
  COMPLETION_TOKENS NUMBER(18, 0),
  TOTAL_TOKENS NUMBER(18, 0),
  CACHED_TOKENS NUMBER(18, 0),
  REASONING_TOKENS NUMBER(18, 0),
  INPUT_COST NUMBER(18, 8),
  OUTPUT_COST NUMBER(18, 8),
  TOTAL_COST NUMBER(18, 8),
  INPUT_UNIT_PRICE NUMBER(18, 10),
  OUTPUT_UNIT_PRICE NUMBER(18, 10),
  SPAN_TYPE VARCHAR(32),
  SPAN_KIND VARCHAR(32),
  OPERATION_NAME VARCHAR(64),
  ATTRIBUTES VARIANT,
  INPUT VARIANT,
  OUTPUT VARIANT,
  METADATA VARIANT,
  TAGS ARRAY,
  MODEL_PARAMETERS VARIANT,
  RESOURCE_ATTRIBUTES VARIANT
)";

/// Version 2 of the table: run this first, then set `shouldIncludeCacheWriteTokens`.
pub const ADD_CACHE_WRITE_TOKENS: &str =
    "ALTER TABLE OPENROUTER_TRACES ADD COLUMN IF NOT EXISTS CACHE_WRITE_TOKENS NUMBER(18, 0)";

const LIMITS: BatchLimits =
    BatchLimits { spans_max: 500, bytes_max: 900_000, age_max: Duration::from_secs(30), concurrency_max: 1 };
/// A test waits so long for the warehouse.
const WAREHOUSE_WAKES: Duration = Duration::from_secs(6);
/// Statements that were still running; more than this are forgotten, and found again by their request id.
const RUNNING_MAX: usize = 64;

/// The adapter.
#[derive(Debug)]
pub struct Snowflake {
    endpoint: Endpoint,
    target: Target,
    /// Handle of the statement by the token of its batch.
    running: Mutex<HashMap<String, String>>,
}

impl Snowflake {
    /// Checks the URL and the headers; opens no connection.
    pub fn new(config: &SnowflakeConfig, clients: &Clients) -> Result<Self, BuildError> {
        let (endpoint, target) = request::endpoint(config, clients)?;
        Ok(Snowflake { endpoint, target, running: Mutex::default() })
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_once(&self, batch: &Batch) -> Sent {
        let handle = self.running().get(&batch.token).cloned();
        let target = self.target.clone();
        let (outgoing, damaged) = match handle {
            Some(handle) => (request::ask(&self.endpoint, &handle), Vec::new()),
            None => {
                let (body, damaged) =
                    offload::encode(batch, move |batch| request::insert(&target, batch)).await;
                if damaged.len() == batch.items.len() {
                    let answer = with_damaged(batch, &damaged, Answer::Delivered);
                    return Sent { answer, bytes: 0 };
                }
                (request::submit(&self.endpoint, &batch.token, batch.attempt, body), damaged)
            }
        };
        let bytes = outgoing.body.len() as u64;
        match self.endpoint.call(outgoing, OTLP_BODY_BYTES_MAX).await {
            Ok(reply) => {
                let answer = response::answer(&reply, &self.endpoint.redactor);
                let mut running = self.running();
                match response::handle_of_running(&reply) {
                    Some(handle) if running.len() < RUNNING_MAX => {
                        running.insert(batch.token.clone(), handle);
                    }
                    _ => {
                        running.remove(&batch.token);
                    }
                }
                drop(running);
                Sent { answer: with_damaged(batch, &damaged, answer), bytes }
            }
            Err(error) => Sent { answer: error.answer(), bytes: 0 },
        }
    }

    async fn probe(&self) -> probe::Verdict {
        let (endpoint, target) = (&self.endpoint, &self.target);
        let described = match endpoint.call(request::describe(endpoint, target), OTLP_BODY_BYTES_MAX).await {
            Ok(reply) => response::described(&reply, target, &endpoint.redactor),
            Err(error) => return probe::Verdict::transport(&error),
        };
        if described.diagnosis != Diagnosis::Ok {
            return described;
        }
        let insert = endpoint.call(request::insert_nothing(endpoint, target), OTLP_BODY_BYTES_MAX);
        match tokio::time::timeout(WAREHOUSE_WAKES, insert).await {
            Ok(Ok(reply)) => response::verdict(&reply, target, &endpoint.redactor),
            Ok(Err(error)) => probe::Verdict::transport(&error),
            Err(_) => {
                let hint = "the table is there with every column; the warehouse takes its time to wake, so that the \
                            right to insert shows with the first rows";
                probe::Verdict { hint: hint.into(), ..described }
            }
        }
    }
}

impl Adapter for Snowflake {
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
        Box::pin(probe::run(self.endpoint.shown_url(), self.probe()))
    }

    fn preview(&self, batch: &Batch) -> Vec<Preview> {
        let (body, _) = request::insert(&self.target, batch);
        let outgoing = request::submit(&self.endpoint, &batch.token, batch.attempt, body);
        vec![outgoing.preview(outgoing.body.clone().into_bytes())]
    }
}
