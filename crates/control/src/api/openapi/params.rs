//! Parameters that operations share.

use serde_json::json;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, Required};

/// Greatest integer every client can write.
const INTEGER_MAX: u64 = (1 << 53) - 1;

macro_rules! param_sets {
    ($($(#[$about:meta])* $name:ident: $($param:expr),+;)*) => {$(
        $(#[$about])*
        pub(crate) enum $name {}

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($param.build()),+]
            }
        }
    )*};
}

param_sets! {
    /// `offset` and `limit` of a list.
    Paging: offset(), limit(50, 100);
    /// `offset` and `limit` of the statistics.
    StatsPaging: offset(), limit(100, 1000);
    /// The workspace whose objects are listed.
    InWorkspace: workspace("Id or slug of a workspace; the default workspace if absent.");
    /// The workspace whose figures are listed.
    OfWorkspace: workspace("Id or slug of a workspace; all of them if absent.");
    /// What `GET /keys` takes: pages of 100.
    KeyFilter:
        offset(),
        query("include_disabled", "`true`, `false`, `1` or `0`.", one_of(&["true", "false", "1", "0"])),
        query("include_expired", "`true`, `false`, `1` or `0`.", one_of(&["true", "false", "1", "0"]));
    /// Store only what passes a connection test.
    Tested: query("test", "Run a connection test first and store only if it succeeds.", Object::with_type(Type::Boolean));
    /// The name of a request.
    Repeatable: ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A name of your own for this request. Repeated with it within 24 hours, the request is answered as the \
             first time and nothing is created again; another request under the same name is 400. A created key \
             cannot be shown again: its repeat is 409 with the `hash` in `error.metadata`.",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(255))
                .pattern(Some("^[\\x21-\\x7e]+$")),
        ));
    /// `{id}` of a destination.
    DestinationPath: path("id", "Id of the destination.", uuid());
    /// Which dead letters.
    LetterFilters:
        query("id", "Only this one.", integer_from(0)),
        query("reason", "Only those given up for this reason.", one_of(&["rejected", "too_large", "unencodable"])),
        query("from", "Only those given up at this time or later.", time()),
        query("to", "Only those given up before this time.", time());
    /// `{letter}` of a dead letter.
    LetterPath: path("letter", "Id of the dead letter.", integer_from(0));
    /// `{trace_id}`.
    TracePath: path("trace_id", "Trace id.", ObjectBuilder::new()
        .schema_type(Type::String).pattern(Some("^[0-9a-fA-F]{32}$")).build());
    /// Which events a tail shows.
    TailFilters:
        query("destination_id", "Only what this destination gets.", uuid()),
        query("skipped", "Only what the destination, or any, does not get.", Object::with_type(Type::Boolean));
    /// `{hash}` of a key.
    KeyPath: path("hash", "SHA-256 of the key.", ObjectBuilder::new()
        .schema_type(Type::String).pattern(Some("^[0-9a-f]{64}$")).build());
    /// `{id}` of a workspace.
    WorkspacePath: path("id", "Id or slug of the workspace.", ObjectBuilder::new()
        .schema_type(Type::String).min_length(Some(1)).build());
    /// The word that deletes the default workspace.
    DefaultWorkspaceConfirmed: query(
        "confirm_default_workspace_deletion", "Needed to delete the default workspace.", Object::with_type(Type::Boolean));
}

fn path(name: &str, description: &str, schema: Object) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
}

fn query(name: &str, description: &str, schema: Object) -> ParameterBuilder {
    path(name, description, schema).parameter_in(ParameterIn::Query).required(Required::False)
}

fn offset() -> ParameterBuilder {
    query("offset", "How many to leave out.", integer(0, 0, INTEGER_MAX))
}

fn limit(default: u64, max: u64) -> ParameterBuilder {
    query("limit", "How many to answer at most.", integer(default, 1, max))
}

fn workspace(description: &str) -> ParameterBuilder {
    query("workspace_id", description, Object::with_type(Type::String))
}

fn integer(default: u64, min: u64, max: u64) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .default(Some(json!(default)))
        .minimum(Some(min))
        .maximum(Some(max))
        .build()
}

fn integer_from(min: u64) -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(INTEGER_MAX)).build()
}

fn time() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .build()
}

fn one_of(values: &'static [&'static str]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values.iter().copied())).build()
}

fn uuid() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .build()
}
