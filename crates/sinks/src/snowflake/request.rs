//! Statements: the insert of a batch, the question for one that still runs, the description of the table.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::{Value as Json, json};
use tracecast_destination::SnowflakeConfig;
use uuid::Uuid;

use super::{ADD_CACHE_WRITE_TOKENS, CREATE_TABLE};
use crate::family::cut::{cut, is_over};
use crate::family::endpoint::Endpoint;
use crate::family::http::Outgoing;
use crate::family::projection::projected;
use crate::family::rows::{Cell, Column, rows};
use crate::family::{chat, headers, json as json_out, urls};
use crate::{Batch, BuildError, Clients};

const TOKEN_TYPE: HeaderName = HeaderName::from_static("x-snowflake-authorization-token-type");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Of the names that request ids are made from.
const NAMESPACE: Uuid = Uuid::from_u128(0x7472_6163_6563_4173_8000_736e_6f77_666c);
/// Seconds a statement may run.
const STATEMENT_TIMEOUT: u32 = 60;

/// How a column is taken out of the binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Varchar,
    Number,
    Float,
    Timestamp,
    Variant,
    Array,
}

/// Where rows go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    database: String,
    schema: String,
    table: String,
    warehouse: String,
    pub(super) columns: Vec<Column>,
    insert: String,
}

pub(super) fn endpoint(
    config: &SnowflakeConfig,
    clients: &Clients,
) -> Result<(Endpoint, Target), BuildError> {
    let url = urls::parse("config.account", &format!("{}/api/v2/statements", config.url()))?;
    let own = [
        (header::AUTHORIZATION, headers::bearer("config.token", &config.token)?),
        (TOKEN_TYPE, HeaderValue::from_static("PROGRAMMATIC_ACCESS_TOKEN")),
        (header::CONTENT_TYPE, JSON),
        (header::ACCEPT, JSON),
    ];
    let endpoint = Endpoint::new(clients, url, own, &config.headers, &[])?;

    let columns: Vec<Column> = Column::ALL
        .iter()
        .copied()
        // Not columns of the contract's table; the third only since its second version.
        .filter(|column| !matches!(column, Column::EventId | Column::Name))
        .filter(|column| *column != Column::CacheWriteTokens || config.should_include_cache_write_tokens)
        .collect();
    let mut target = Target {
        database: name(&config.database),
        schema: name(&config.schema),
        table: name(&config.table),
        warehouse: name(&config.warehouse),
        columns,
        insert: String::new(),
    };
    target.insert = insert_statement(&target);
    Ok((endpoint, target))
}

/// A name as `SHOW` prints it.
fn name(given: &str) -> String {
    match given.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => given.to_uppercase(),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn table(target: &Target) -> String {
    format!("{}.{}.{}", quoted(&target.database), quoted(&target.schema), quoted(&target.table))
}

impl Target {
    /// What makes the table, on one line.
    pub(super) fn create_table(&self) -> String {
        let lines: Vec<&str> = CREATE_TABLE.lines().map(str::trim).collect();
        lines.join(" ").replacen("OPENROUTER_TRACES", &table(self), 1)
    }

    /// What makes it one of version 2.
    pub(super) fn add_cache_write_tokens(&self) -> String {
        ADD_CACHE_WRITE_TOKENS.replacen("OPENROUTER_TRACES", &table(self), 1)
    }
}

fn insert_statement(target: &Target) -> String {
    let names: Vec<String> = target.columns.iter().map(|column| quoted(column.name())).collect();
    let values: Vec<String> = target
        .columns
        .iter()
        .enumerate()
        .map(|(i, column)| match type_of(*column) {
            Type::Varchar => format!("r.value:c{i}::VARCHAR"),
            Type::Number => format!("r.value:c{i}::NUMBER"),
            Type::Float => format!("r.value:c{i}::FLOAT"),
            Type::Timestamp => format!("TO_TIMESTAMP_NTZ(r.value:c{i}::NUMBER, 9)"),
            Type::Variant => format!("r.value:c{i}"),
            Type::Array => format!("r.value:c{i}::ARRAY"),
        })
        .collect();
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?))) r",
        table(target),
        names.join(", "),
        values.join(", ")
    )
}

fn type_of(column: Column) -> Type {
    match column {
        Column::Timestamp | Column::StartTime | Column::EndTime => Type::Timestamp,
        Column::DurationMs
        | Column::InputCost
        | Column::OutputCost
        | Column::TotalCost
        | Column::InputUnitPrice
        | Column::OutputUnitPrice => Type::Float,
        Column::PromptTokens
        | Column::CompletionTokens
        | Column::TotalTokens
        | Column::CachedTokens
        | Column::ReasoningTokens
        | Column::CacheWriteTokens => Type::Number,
        Column::Attributes
        | Column::Input
        | Column::Output
        | Column::Metadata
        | Column::ModelParameters
        | Column::ResourceAttributes => Type::Variant,
        Column::Tags => Type::Array,
        _ => Type::Varchar,
    }
}

/// The statement with its rows, and the positions of items that cannot be read.
pub(super) fn insert(target: &Target, batch: &Batch) -> (Bytes, Vec<usize>) {
    let mut array = vec![b'['];
    let mut damaged = Vec::new();
    for (i, item) in batch.items.iter().map(projected).enumerate() {
        let Ok(traces) = item.payload.traces() else {
            damaged.push(i);
            continue;
        };
        for row in rows(traces, &item.spans) {
            if array.len() > 1 {
                array.push(b',');
            }
            let mut object = json_out::Object::open(&mut array);
            for (i, column) in target.columns.iter().enumerate() {
                put(&mut object, &format!("c{i}"), fitting(*column, row.cell(*column)));
            }
            object.close();
        }
    }
    array.push(b']');
    let rows = String::from_utf8(array).unwrap_or_default();
    let body = statement(target, &target.insert, binding(rows));
    (body, damaged)
}

/// One text that is wider than its column would have the whole statement refused. Whole it stands in `ATTRIBUTES`.
fn fitting(column: Column, cell: Cell<'_>) -> Cell<'_> {
    match (width(column), cell) {
        // A variant that holds an empty text would be something.
        (_, Cell::Text(text)) if text.is_empty() && matches!(column, Column::Input | Column::Output) => {
            Cell::Absent
        }
        (Some(width), Cell::Text(text)) if is_over(&text, width) => Cell::Text(cut(&text, width).into()),
        (_, cell) => cell,
    }
}

/// Characters of [`CREATE_TABLE`]'s columns that hold what a caller wrote.
fn width(column: Column) -> Option<usize> {
    match column {
        Column::UserId
        | Column::SessionId
        | Column::OrganizationId
        | Column::EntityId
        | Column::ApiKeyName
        | Column::Model => Some(256),
        Column::ProviderName | Column::ProviderSlug => Some(128),
        Column::FinishReason | Column::OperationName => Some(64),
        Column::Level => Some(32),
        _ => None,
    }
}

fn put(object: &mut json_out::Object<'_>, key: &str, cell: Cell<'_>) {
    match cell {
        Cell::Absent => {}
        Cell::Text(text) => object.str(key, &text),
        Cell::Count(count) | Cell::Time(count) => object.opt_u64(key, Some(count)),
        Cell::Number(number) => object.opt_f64(key, Some(number)),
        Cell::Json(text) => object.key(key).extend_from_slice(text.as_bytes()),
        Cell::List(items) => object.value(key, &items),
    }
}

fn statement(target: &Target, statement: &str, bindings: Json) -> Bytes {
    chat::object([
        ("statement", statement.into()),
        ("timeout", STATEMENT_TIMEOUT.into()),
        ("database", target.database.as_str().into()),
        ("schema", target.schema.as_str().into()),
        ("warehouse", target.warehouse.as_str().into()),
        ("bindings", bindings),
        ("parameters", json!({ "query_tag": "tracecast" })),
    ])
    .to_string()
    .into()
}

/// The one text that holds all rows.
fn binding(rows: String) -> Json {
    chat::object([("1", chat::object([("type", "TEXT".into()), ("value", rows.into())]))])
}

/// The first attempt runs the statement; a later one only if it did not run yet.
pub(super) fn submit(endpoint: &Endpoint, token: &str, attempt: u32, body: Bytes) -> Outgoing {
    let mut outgoing = endpoint.request(body);
    let id = Uuid::new_v5(&NAMESPACE, token.as_bytes()).to_string();
    let mut query = outgoing.url.query_pairs_mut();
    query.append_pair("requestId", &id);
    if attempt > 0 {
        query.append_pair("retry", "true");
    }
    drop(query);
    outgoing
}

/// What became of a statement that was running.
pub(super) fn ask(endpoint: &Endpoint, handle: &str) -> Outgoing {
    let mut outgoing = endpoint.request(Bytes::new());
    outgoing.method = Method::GET;
    if let Ok(mut path) = outgoing.url.path_segments_mut() {
        path.push(handle);
    }
    outgoing
}

/// The insert of no rows: needs every right, and stores nothing.
pub(super) fn insert_nothing(endpoint: &Endpoint, target: &Target) -> Outgoing {
    endpoint.request(statement(target, &target.insert, binding("[]".into())))
}

pub(super) fn describe(endpoint: &Endpoint, target: &Target) -> Outgoing {
    endpoint.request(statement(target, &format!("DESCRIBE TABLE {}", table(target)), json!({})))
}
