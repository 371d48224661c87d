//! Tests against foreign software: real clients drive the ingest, real stores receive, and what they stored
//! is read back. Everything needed is installed from PyPI under `target/backends`; what is missing fails.

mod clickhouse;
mod conformance;
mod mlflow;
mod models;
mod openapi;
mod phoenix;
mod python;
mod s3;
mod sdks;
