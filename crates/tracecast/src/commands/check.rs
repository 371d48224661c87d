//! `tracecast check`: validates a config file without opening a port.

use std::path::PathBuf;

use crate::{Exit, config, listeners};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to validate.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) fn run(args: &Args) -> Exit {
    match config::load(Some(&args.config), None) {
        Ok(config) => {
            let listeners = [config.ingest_http, config.ingest_grpc, config.admin];
            let mut loops = 0;
            for destination in &config.destinations {
                if let Some(issue) = listeners::own(destination, &listeners) {
                    eprintln!("destination `{}`: {} {}", destination.name, issue.path, issue.message);
                    loops += 1;
                }
            }
            if loops > 0 {
                return Exit::Usage;
            }
            let n = config.destinations.len();
            println!("{}: fine ({n} destination{})", args.config.display(), if n == 1 { "" } else { "s" });
            Exit::Fine
        }
        Err(mistakes) => {
            eprint!("{mistakes}");
            let n = mistakes.len();
            eprintln!("{n} mistake{} in {}", if n == 1 { "" } else { "s" }, args.config.display());
            Exit::Usage
        }
    }
}
