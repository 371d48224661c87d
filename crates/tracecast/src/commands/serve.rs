//! `tracecast serve`: runs the gateway until it is told to stop.

use std::path::PathBuf;

use secrecy::ExposeSecret as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{block_on, secret};
use crate::gateway::{Gateway, Secrets};
use crate::reload::Watched;
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
    block_on(serve(config, Watched::new(args.config, args.data_dir), secrets))
}

async fn serve(config: config::Config, mut file: Watched, secrets: Secrets) -> Exit {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("tracecast: signals cannot be received: {error}");
            return Exit::Internal;
        }
    };
    let auth_none = config.auth == tracecast_ingest::Auth::None;
    let started = tokio::select! {
        started = Gateway::start(config, secrets) => started,
        () = signals.stop() => return Exit::Fine,
    };
    let gateway = match started {
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
    let successor = {
        // Polled from first to last: who asks is not to be dropped for a reload.
        let mut successor = std::pin::pin!(gateway.successor());
        loop {
            tokio::select! {
                is_stop = signals.next_is_stop() => if is_stop { break None },
                successor = successor.as_mut() => break Some(successor),
                () = file.changed() => {}
            }
            file.reload(&gateway).await;
        }
    };
    match successor {
        None => {
            tracing::info!("stopping");
            gateway.stop(signals.stop()).await;
        }
        Some(successor) => {
            tracing::info!("stopping: another process takes over");
            // The signal that was meant to make room for it is the first, not the one that hurries.
            let hurry = async {
                signals.stop().await;
                signals.stop().await;
            };
            gateway.hand_over(successor, hurry).await;
        }
    }
    Exit::Fine
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The signals the gateway obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at each SIGTERM and SIGINT.
    async fn stop(&mut self) {
        let Signals { terminate, interrupt, .. } = self;
        stop(terminate, interrupt).await;
    }

    /// Resolves as soon as there is one of them: to stop, or (`false`) to read the config file again.
    async fn next_is_stop(&mut self) -> bool {
        let Signals { terminate, interrupt, hangup } = self;
        tokio::select! {
            () = stop(terminate, interrupt) => true,
            _ = hangup.recv() => false,
        }
    }
}

fn secrets() -> Result<Secrets, String> {
    Ok(Secrets {
        management_key: secret("TRACECAST_MANAGEMENT_KEY")?,
        master_key: secret("TRACECAST_MASTER_KEY")?,
    })
}
