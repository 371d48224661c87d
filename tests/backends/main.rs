//! Tests against foreign software: real clients drive the ingest, real stores receive, and what they stored
//! is read back. Everything needed is installed from PyPI under `target/backends`; what is missing fails.

mod arize;
mod clickhouse;
mod conformance;
mod datadog;
mod mlflow;
mod models;
mod openapi;
mod phoenix;
mod python;
mod roles;
mod s3;
mod sdks;
mod snowflake;
mod weave;
