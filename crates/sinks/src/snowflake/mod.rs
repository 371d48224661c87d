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
//! | names | as `SHOW` prints them: what is not in double quotes is taken in upper case |
//! | limits | 500 rows, 900 KB (statements over 1 MB cannot be found again for a retry), 30 s (each insert wakes the warehouse), one at a time |
//! | identity | `requestId` is made of the batch's token; a retry says `retry=true`, and Snowflake does not run what already ran |
//! | 202 | still running: the next attempt asks for the statement instead of sending it again |
//! | 422 | by SQL state and code: missing table or column, rights and warehouse hold the destination; a bad value is searched for by halving |
//! | privacy | `INPUT`, `OUTPUT` and content among `ATTRIBUTES` are not sent |
//! | test | `DESCRIBE TABLE`: proves token, network policy, names and columns; the right to insert shows with the first rows |

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
use crate::{Adapter, Answer, Batch, BatchLimits, BuildError, Clients, Preview, Sent, TestReport};

const LIMITS: BatchLimits =
    BatchLimits { spans_max: 500, bytes_max: 900_000, age_max: Duration::from_secs(30), concurrency_max: 1 };
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
        let describe = request::describe(&self.endpoint, &self.target);
        match self.endpoint.call(describe, OTLP_BODY_BYTES_MAX).await {
            Ok(reply) => response::verdict(&reply, &self.target, &self.endpoint.redactor),
            Err(error) => probe::Verdict::transport(&error),
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
