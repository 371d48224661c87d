//! From what ingest counted to what the keys show: once a second, and at the stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracecast_control::{Control, Error, KeyUsage};
use tracecast_ingest::{Ending, Ingest};

const EVERY: Duration = Duration::from_secs(1);

/// Hands over until the gateway stops.
pub(crate) async fn keep_recording(
    ingest: Ingest,
    control: Arc<Control>,
    mut end: watch::Receiver<Option<Ending>>,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = end.wait_for(Option::is_some) => return,
        }
        match (record(&ingest, &control).await, is_failing) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => {
                is_failing = false;
                tracing::info!("usage of the keys is stored again");
            }
            (Err(error), false) => {
                is_failing = true;
                tracing::warn!(%error, "usage of the keys cannot be stored: it is kept in memory and tried again");
            }
        }
    }
}

/// The last time, when no request can come any more.
pub(crate) async fn record_last(ingest: &Ingest, control: &Control) {
    if let Err(error) = record(ingest, control).await {
        tracing::warn!(%error, "usage of the keys since it could last be stored is lost");
    }
}

/// Hands over what was counted since the last time. What cannot be stored the control plane keeps.
async fn record(ingest: &Ingest, control: &Control) -> Result<(), Error> {
    let usage = ingest.take_usage().into_iter().map(|usage| KeyUsage {
        hash: usage.hash,
        cost_nano_usd: usage.cost_nano_usd,
        byok_nano_usd: usage.byok_nano_usd,
        events: usage.events,
        last_used_unix_nano: usage.last_used_unix_nano,
    });
    control.record_usage(usage.collect()).await
}
