//! The table as the server describes it: which of our columns it has, and in which types.

use serde::Deserialize;

use crate::family::rows::Column;

/// Without these a row says nothing.
const CORE: [Column; 3] = [Column::TraceId, Column::SpanId, Column::Timestamp];

/// How a column takes its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Integer,
    Number,
    /// Whole seconds.
    DateTime,
    /// With a fraction.
    DateTime64,
    /// A JSON value of its own.
    Json,
    /// `Array(String)`.
    List,
    /// `Map(String, String)`.
    Map,
}

/// A column of the table that we fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableColumn {
    pub(super) column: Column,
    /// As the table spells it.
    pub(super) name: String,
    pub(super) shape: Shape,
}

/// What both sides know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: Vec<TableColumn>,
}

/// One line of `DESCRIBE TABLE ... FORMAT JSONEachRow`.
#[derive(Deserialize)]
struct Described {
    name: String,
    r#type: String,
    #[serde(default)]
    default_type: String,
}

impl Table {
    /// Reads a description; the error says what is missing.
    pub(super) fn read(described: &[u8], cache_write_tokens: bool) -> Result<Table, String> {
        let mut columns = Vec::new();
        let mut unmapped = Vec::new();
        for line in described.split(|byte| *byte == b'\n') {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let described: Described = serde_json::from_slice(line)
                .map_err(|error| format!("the description of the table cannot be read: {error}"))?;
            let upper = described.name.to_ascii_uppercase();
            let Some(column) = Column::ALL.iter().find(|column| column.name() == upper) else {
                continue;
            };
            if *column == Column::CacheWriteTokens && !cache_write_tokens {
                continue;
            }
            // Computed columns cannot be inserted into.
            if matches!(described.default_type.as_str(), "MATERIALIZED" | "ALIAS") {
                continue;
            }
            match shape(&described.r#type).filter(|shape| fits(*column, *shape)) {
                Some(shape) => columns.push(TableColumn { column: *column, name: described.name, shape }),
                None => unmapped.push(format!("{} {}", described.name, described.r#type)),
            }
        }
        let missing: Vec<&str> = CORE
            .iter()
            .filter(|core| !columns.iter().any(|known| known.column == **core))
            .map(|core| core.name())
            .collect();
        if !missing.is_empty() {
            let mut text = format!("the table has no usable column {}", missing.join(", "));
            if !unmapped.is_empty() {
                text.push_str("; of a type that cannot be filled: ");
                text.push_str(&unmapped.join(", "));
            }
            return Err(text);
        }
        if cache_write_tokens && !columns.iter().any(|known| known.column == Column::CacheWriteTokens) {
            return Err(
                "the table has no column CACHE_WRITE_TOKENS; add it or switch shouldIncludeCacheWriteTokens off"
                    .into(),
            );
        }
        Ok(Table { columns })
    }

    /// The columns of the documented table, for a preview before the first contact.
    pub(super) fn default_columns(cache_write_tokens: bool) -> Table {
        let columns = Column::ALL
            .iter()
            .filter(|column| match column {
                Column::EventId | Column::Name => false,
                Column::CacheWriteTokens => cache_write_tokens,
                _ => true,
            })
            .map(|column| TableColumn {
                column: *column,
                name: column.name().to_owned(),
                shape: match column {
                    Column::Timestamp | Column::StartTime | Column::EndTime => Shape::DateTime64,
                    Column::Tags => Shape::List,
                    Column::PromptTokens
                    | Column::CompletionTokens
                    | Column::TotalTokens
                    | Column::CachedTokens
                    | Column::ReasoningTokens
                    | Column::CacheWriteTokens => Shape::Integer,
                    Column::DurationMs
                    | Column::InputCost
                    | Column::OutputCost
                    | Column::TotalCost
                    | Column::InputUnitPrice
                    | Column::OutputUnitPrice => Shape::Number,
                    _ => Shape::Text,
                },
            })
            .collect();
        Table { columns }
    }

    pub(super) fn summary(&self) -> String {
        format!("{} of the table's columns will be filled; nothing was written", self.columns.len())
    }
}

/// The shape of a ClickHouse type; `None` for types no value of ours fits.
fn shape(text: &str) -> Option<Shape> {
    let text = text.trim();
    for wrapper in ["Nullable(", "LowCardinality("] {
        if let Some(inner) = text.strip_prefix(wrapper).and_then(|rest| rest.strip_suffix(')')) {
            return shape(inner);
        }
    }
    let base = text.split('(').next().unwrap_or(text).trim();
    Some(match base {
        "String" | "FixedString" | "Enum8" | "Enum16" | "Enum" | "UUID" => Shape::Text,
        "DateTime64" => Shape::DateTime64,
        "DateTime" => Shape::DateTime,
        "Float32" | "Float64" | "BFloat16" => Shape::Number,
        "JSON" | "Object" => Shape::Json,
        "Map" => Shape::Map,
        "Array" => {
            let inner = text.strip_prefix("Array(")?.strip_suffix(')')?;
            (shape(inner)? == Shape::Text).then_some(Shape::List)?
        }
        _ if base.starts_with("Decimal") => Shape::Number,
        _ if base.starts_with("UInt") || base.starts_with("Int") => Shape::Integer,
        _ => return None,
    })
}

/// Whether the values of a column can be written in a shape.
fn fits(column: Column, shape: Shape) -> bool {
    match column {
        Column::Timestamp | Column::StartTime | Column::EndTime => {
            matches!(shape, Shape::DateTime | Shape::DateTime64 | Shape::Text | Shape::Integer)
        }
        Column::DurationMs
        | Column::PromptTokens
        | Column::CompletionTokens
        | Column::TotalTokens
        | Column::CachedTokens
        | Column::ReasoningTokens
        | Column::CacheWriteTokens
        | Column::InputCost
        | Column::OutputCost
        | Column::TotalCost
        | Column::InputUnitPrice
        | Column::OutputUnitPrice => {
            matches!(shape, Shape::Number | Shape::Integer | Shape::Text)
        }
        Column::Attributes
        | Column::Input
        | Column::Output
        | Column::Metadata
        | Column::ModelParameters
        | Column::ResourceAttributes => matches!(shape, Shape::Text | Shape::Json | Shape::Map),
        Column::Tags => matches!(shape, Shape::List | Shape::Text),
        _ => shape == Shape::Text,
    }
}
