//! One file a command.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod load;
pub(crate) mod serve;
pub(crate) mod sink;

use std::future::Future;

use crate::Exit;

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
