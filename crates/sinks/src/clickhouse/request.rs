//! The request: the `INSERT` statement and its rows.

use std::io::Write;
use std::time::Duration;

use ::clickhouse::{Client, Compression};
use bytes::Bytes;
use tracecast_destination::{ClickhouseConfig, ExposeSecret};
use url::Url;

use super::response::Trouble;
use super::schema::{Shape, Table};
use crate::clients::{ATTEMPT_TIMEOUT, CONNECT_TIMEOUT};
use crate::family::otlp_http::Body;
use crate::family::projection::projected;
use crate::family::redact::{Redactor, shown_url};
use crate::family::rows::{Cell, rows};
use crate::family::transport::TransportError;
use crate::family::{address, headers, json, urls};
use crate::{Batch, BuildError, Clients, Preview};

/// Rows are handed to the connection in pieces of this size, each compressed on its own.
const CHUNK_BYTES: usize = 512 << 10;
/// A stalled connection is given up after this.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Set from the config; a user header of these names is left out.
const OWN_HEADERS: [&str; 4] = ["authorization", "user-agent", "x-clickhouse-key", "x-clickhouse-user"];
/// The last instants the two time types can hold, seconds since 1970.
const DATETIME64_MAX: u64 = 10_413_791_999;
const DATETIME_MAX: u64 = 4_294_967_295;

/// Where rows go.
pub(super) struct Target {
    client: Client,
    url: Url,
    database: String,
    table: String,
    username: String,
    user_headers: Vec<String>,
    pub(super) cache_write_tokens: bool,
    pub(super) redactor: Redactor,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("url", &self.shown_url())
            .field("database", &self.database)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(config: &ClickhouseConfig, clients: &Clients) -> Result<Self, BuildError> {
        let mut url = urls::parse("config.host", &config.url())?;
        // The client writes its own query.
        url.set_query(None);
        url.set_fragment(None);
        let (database, table) = match config.table.split_once('.') {
            Some((database, table)) if !database.is_empty() && !table.is_empty() => {
                (database.to_owned(), table.to_owned())
            }
            _ => (config.database.clone(), config.table.clone()),
        };
        // LZ4 costs little, but between near hosts bytes cost less.
        let compression = if address::is_near(&url) { Compression::None } else { Compression::Lz4 };
        let mut client = clients
            .clickhouse()
            .with_url(url.as_str())
            .with_database(&database)
            .with_user(&config.username)
            .with_password(config.password.expose_secret())
            .with_compression(compression);
        // The same rules as for the other kinds: names checked, none of ours replaced.
        let is_own = |name: &http::HeaderName| OWN_HEADERS.contains(&name.as_str());
        let user = headers::user(&config.headers, is_own)?;
        let mut user_headers = Vec::new();
        for (name, value) in &user {
            if let Ok(value) = value.to_str() {
                client = client.with_header(name.as_str(), value);
                user_headers.push(name.to_string());
            }
        }
        let secrets = headers::secrets_of(&user).chain([config.password.clone()]);
        Ok(Target {
            client,
            url,
            database,
            table,
            username: config.username.clone(),
            user_headers,
            cache_write_tokens: config.should_include_cache_write_tokens,
            redactor: Redactor::new(secrets),
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn shown_url(&self) -> String {
        shown_url(&self.url)
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// `database.table` for people.
    pub(super) fn place(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    /// Name, type and default of each column, one JSON object per line.
    pub(super) async fn describe(&self) -> Result<Bytes, Trouble> {
        let query = format!("DESCRIBE TABLE {}", identifier(&self.table));
        let answer = async { self.client.query_raw(&query).fetch_bytes("JSONEachRow")?.collect().await };
        self.in_time(answer).await
    }

    /// Needs the right to insert, writes nothing.
    pub(super) async fn try_insert(&self) -> Result<(), Trouble> {
        let query =
            format!("INSERT INTO {} (TRACE_ID, SPAN_ID) SELECT '', '' WHERE 0", identifier(&self.table));
        self.in_time(self.client.query_raw(&query).execute()).await
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = ::clickhouse::error::Result<T>>,
    ) -> Result<T, Trouble> {
        match tokio::time::timeout(ATTEMPT_TIMEOUT, call).await {
            Ok(result) => result.map_err(|error| Trouble::of(error, &self.url)),
            Err(_) => Err(Trouble::Transport(TransportError::timeout(&self.url))),
        }
    }

    /// One synchronous insert of the rows.
    pub(super) async fn insert(&self, table: &Table, batch: &Batch, mut rows: Bytes) -> Result<(), Trouble> {
        let mut insert = self
            .client
            .insert_formatted_with(statement(&self.table, table))
            .with_timeouts(Some(SEND_TIMEOUT + CONNECT_TIMEOUT), Some(ATTEMPT_TIMEOUT));
        for (name, value) in settings(&batch.token) {
            insert = insert.with_setting(name, value);
        }
        while !rows.is_empty() {
            let chunk = rows.split_to(rows.len().min(CHUNK_BYTES));
            insert.send(chunk).await.map_err(|error| Trouble::of(error, &self.url))?;
        }
        insert.end().await.map_err(|error| Trouble::of(error, &self.url))
    }

    pub(super) fn preview(&self, table: &Table, token: &str, body: Bytes) -> Preview {
        let mut url = self.url.clone();
        url.set_query(None);
        url.query_pairs_mut()
            .append_pair("database", &self.database)
            .append_pair("query", &statement(&self.table, table))
            .extend_pairs(settings(token));
        let mut headers = vec![
            ("x-clickhouse-user".to_owned(), self.username.clone()),
            ("x-clickhouse-key".to_owned(), "***".to_owned()),
        ];
        headers.extend(self.user_headers.iter().map(|name| (name.clone(), "***".to_owned())));
        Preview { method: "POST".into(), url: url.into(), headers, body }
    }
}

/// Quoted as ClickHouse quotes identifiers.
pub(super) fn identifier(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('`');
    for c in name.chars() {
        if matches!(c, '`' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('`');
    quoted
}

pub(super) fn statement(table: &str, known: &Table) -> String {
    let columns: Vec<String> = known.columns.iter().map(|column| identifier(&column.name)).collect();
    format!("INSERT INTO {} ({}) FORMAT JSONEachRow", identifier(table), columns.join(", "))
}

fn settings(token: &str) -> [(&'static str, &str); 4] {
    [
        ("insert_deduplication_token", token),
        // Newer servers insert asynchronously by default, where errors and duplicates are lost.
        ("async_insert", "0"),
        ("wait_end_of_query", "1"),
        // Reads our times with their zone, whatever the server's is.
        ("date_time_input_format", "best_effort"),
    ]
}

/// The rows of a batch, one JSON object per line.
pub(super) fn body(batch: &Batch, table: &Table) -> Body {
    let room: usize = batch.items.iter().map(|item| item.payload.bytes().len()).sum();
    let mut out = Vec::with_capacity(room.saturating_mul(2));
    let mut damaged = Vec::new();
    for (i, item) in batch.items.iter().enumerate() {
        let item = projected(item);
        let Ok(traces) = item.payload.traces() else {
            damaged.push(i);
            continue;
        };
        for row in rows(traces, &item.spans) {
            let mut object = json::Object::open(&mut out);
            for column in &table.columns {
                write(&mut object, &column.name, column.shape, row.cell(column.column));
            }
            object.close();
            out.push(b'\n');
        }
    }
    Body { bytes: out.into(), damaged }
}

/// One value in the column's shape. What is absent or does not fit is left out and becomes the
/// column's default.
fn write(object: &mut json::Object<'_>, name: &str, shape: Shape, cell: Cell<'_>) {
    match (cell, shape) {
        (Cell::Text(text), Shape::Text) => object.str(name, &text),
        (Cell::Count(n), Shape::Text) => object.str(name, &n.to_string()),
        (Cell::Count(n), Shape::Integer | Shape::Number) => object.opt_u64(name, Some(n)),
        (Cell::Number(n), Shape::Number) => object.opt_f64(name, Some(n)),
        (Cell::Number(n), Shape::Text) => object.str(name, &n.to_string()),
        (Cell::Number(n), Shape::Integer) => {
            let _ = write!(object.key(name), "{}", n.round() as i64);
        }
        (Cell::Time(nanos), Shape::DateTime64) => {
            let nanos = nanos.min(DATETIME64_MAX * 1_000_000_000);
            object.str(name, &json::rfc3339(nanos));
        }
        (Cell::Time(nanos), Shape::DateTime) => {
            let seconds = (nanos / 1_000_000_000).min(DATETIME_MAX);
            let time = json::timestamp(seconds * 1_000_000_000);
            object.str(name, &time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        (Cell::Time(nanos), Shape::Integer) => object.opt_u64(name, Some(nanos / 1_000_000)),
        (Cell::Time(nanos), Shape::Text) => object.str(name, &json::rfc3339(nanos)),
        (Cell::Json(text), Shape::Text) => object.str(name, &text),
        (Cell::Json(text), Shape::Json) if text.starts_with('{') => {
            object.key(name).extend_from_slice(text.as_bytes());
        }
        (Cell::Json(text), Shape::Map) => map(object, name, &text),
        (Cell::List(items), Shape::List) => object.value(name, &items),
        (Cell::List(items), Shape::Text) => {
            let text = serde_json::Value::from(items).to_string();
            object.str(name, &text);
        }
        _ => {}
    }
}

/// A JSON object as `Map(String, String)`.
fn map(object: &mut json::Object<'_>, name: &str, text: &str) {
    let Ok(serde_json::Value::Object(map)) = serde_json::from_str(text) else {
        return;
    };
    let map: serde_json::Map<String, serde_json::Value> = map
        .into_iter()
        .map(|(key, value)| match value {
            serde_json::Value::String(text) => (key, text.into()),
            other => (key, other.to_string().into()),
        })
        .collect();
    object.value(name, &map);
}
