//! `tracecast config-schema`: the JSON Schema of the config file, for editors.

use std::io::Write as _;

use crate::{Exit, config};

pub(crate) fn run() -> Exit {
    match writeln!(std::io::stdout(), "{:#}", config::json_schema()) {
        Ok(()) => Exit::Fine,
        Err(error) => {
            eprintln!("tracecast: the schema cannot be written: {error}");
            Exit::Io
        }
    }
}
