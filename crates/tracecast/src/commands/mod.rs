//! One file a command.

pub(crate) mod check;
pub(crate) mod config_schema;
pub(crate) mod demo;
pub(crate) mod destination;
pub(crate) mod key;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod sink;
pub(crate) mod stats;
pub(crate) mod tail;

use std::future::Future;

use secrecy::SecretString;

use crate::Exit;
use crate::admin::{Admin, Failure};
use crate::output;

/// Which gateway a thin client speaks to, and how it shows the answer.
#[derive(Debug, clap::Args)]
struct Connection {
    /// Base URL of the admin listener. The management key is read from TRACECAST_MANAGEMENT_KEY, or from the
    /// file TRACECAST_MANAGEMENT_KEY_FILE names.
    #[arg(long, value_name = "URL", env = "TRACECAST_ADMIN_URL", default_value = "http://127.0.0.1:4320")]
    admin: String,
    /// Print the API's body as it is.
    #[arg(long)]
    json: bool,
}

impl Connection {
    /// Runs `command` with the gateway's admin API; a failure is told and becomes the exit code.
    fn run(&self, command: impl AsyncFnOnce(Admin) -> Result<Exit, Failure>) -> Exit {
        block_on(async {
            let done = match self.open() {
                Ok(admin) => command(admin).await,
                Err(failure) => Err(failure),
            };
            done.unwrap_or_else(|failure| output::fail(&failure, self.json))
        })
    }

    fn open(&self) -> Result<Admin, Failure> {
        const NAME: &str = "TRACECAST_MANAGEMENT_KEY";
        let key = secret(NAME).map_err(Failure::Usage)?.ok_or_else(|| {
            Failure::Usage(format!("no management key: set {NAME}, or {NAME}_FILE to a file that holds it"))
        })?;
        Admin::new(&self.admin, key)
    }
}

/// The variable `name`, or the content of the file `<name>_FILE` names.
fn secret(name: &str) -> Result<Option<SecretString>, String> {
    if let Ok(value) = std::env::var(name) {
        return Ok(Some(SecretString::from(value)));
    }
    match std::env::var(format!("{name}_FILE")) {
        Ok(path) => std::fs::read_to_string(&path)
            .map(|text| Some(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned())))
            .map_err(|e| format!("{name}_FILE: cannot read {path}: {e}")),
        Err(_) => Ok(None),
    }
}

/// Runs a command on a multi-thread runtime.
fn block_on(future: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(future);
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            exit
        }
        Err(error) => {
            eprintln!("tracecast: no async runtime: {error}");
            Exit::Internal
        }
    }
}

/// Resolves at SIGINT or SIGTERM.
async fn until_stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
