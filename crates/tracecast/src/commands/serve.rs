//! `tracecast serve`: runs the gateway until it is told to stop.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{block_on, secret};
use crate::gateway::{Gateway, Secrets};
use crate::{Exit, config, hints};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The config file; without it the defaults hold and no file is read.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where log, store and keys are kept.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Exit {
    let config = match config::load(args.config.as_deref(), args.data_dir.as_deref()) {
        Ok(config) => config,
        Err(mistakes) => {
            eprint!("{mistakes}");
            return Exit::Usage;
        }
    };
    let secrets = match secrets() {
        Ok(secrets) => secrets,
        Err(message) => {
            eprintln!("tracecast: {message}");
            return Exit::Usage;
        }
    };
    tracecast_telemetry::init_logs();
    block_on(serve(config, secrets))
}

async fn serve(config: config::Config, secrets: Secrets) -> Exit {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            _ => {
                eprintln!("tracecast: signals cannot be received");
                return Exit::Internal;
            }
        };
    let auth_none = config.auth == tracecast_ingest::Auth::None;
    let gateway = match Gateway::start(config, secrets).await {
        Ok(gateway) => gateway,
        Err(error) => {
            eprintln!("tracecast: {error}");
            return error.exit();
        }
    };
    if let Some(key) = gateway.generated_management_key() {
        // Printed once, to the terminal only: a structured log would keep it.
        eprintln!("export TRACECAST_MANAGEMENT_KEY={}", key.expose_secret());
    }
    let addresses = gateway.addresses();
    println!("ingest http  http://{}", addresses.http);
    println!("ingest grpc  {}", addresses.grpc);
    println!("admin        http://{}", addresses.admin);
    for hint in hints::hints(&gateway, auth_none) {
        eprintln!("hint: {hint}");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    let stop = gateway.stop(Duration::from_secs(10));
    tokio::select! {
        () = stop => Exit::Fine,
        // A second signal does not wait for open requests and sends; the log is safe in either case.
        _ = terminate.recv() => Exit::Fine,
        _ = interrupt.recv() => Exit::Fine,
    }
}

fn secrets() -> Result<Secrets, String> {
    Ok(Secrets {
        management_key: secret("TRACECAST_MANAGEMENT_KEY")?,
        master_key: secret("TRACECAST_MASTER_KEY")?,
    })
}
