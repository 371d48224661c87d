//! The running gateway: opened in order, wired, and stopped in order.
//!
//! Start: sockets are bound first (a taken port ends the start before anything else is touched), then the log
//! is opened and recovered, then the control plane, then delivery takes up the backlog, then ingest answers.
//! Stop: readiness fails and ingest refuses, open requests finish, sends in flight finish, the log is closed.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracecast_control::{Control, Opened};
use tracecast_delivery::Delivery;
use tracecast_destination::{Destination, Region};
use tracecast_ingest::{Addresses, Ingest, Listener, Options as IngestOptions, Protocol};
use tracecast_log::{Durability, Log, LogError, Options as LogOptions};
use tracecast_rules::{Snapshot, TraceMemory};
use tracecast_sinks::{ClientOptions, Clients};
use tracecast_telemetry::Metrics;

use crate::Exit;
use crate::config::Config;
use crate::runtime::{GatewayRuntime, INSTRUMENTS};
use crate::usage;

/// Bytes of the trace memory of the rules.
const TRACE_MEMORY_BYTES: usize = 16 << 20;
/// Size of a log segment.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Secrets given from outside the config file.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    pub(crate) management_key: Option<SecretString>,
    pub(crate) master_key: Option<SecretString>,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot listen on {address} ({key}): {source}")]
    Bind { address: SocketAddr, key: &'static str, source: io::Error },
    #[error("data directory {path} cannot be made: {source}")]
    DataDir { path: PathBuf, source: io::Error },
    #[error("log: {0}")]
    Log(#[from] LogError),
    #[error("control plane: {0}")]
    Control(#[from] tracecast_control::Error),
    #[error("{0}")]
    Internal(String),
}

impl StartError {
    pub(crate) fn exit(&self) -> Exit {
        use tracecast_control::Error;
        match self {
            StartError::Bind { .. } | StartError::DataDir { .. } | StartError::Log(_) => Exit::Io,
            StartError::Control(Error::Invalid(_) | Error::MasterKey { .. }) => Exit::Usage,
            StartError::Control(_) => Exit::Io,
            StartError::Internal(_) => Exit::Internal,
        }
    }
}

/// A gateway that serves.
pub(crate) struct Gateway {
    addresses: BoundAddresses,
    control: Arc<Control>,
    generated_management_key: Option<SecretString>,
    runtime: Arc<GatewayRuntime>,
    log: Log,
    delivery: Delivery,
    ingest: Ingest,
    region: Region,
    /// Whether the backlog is on disk.
    keeps_log: bool,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundAddresses {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// Starts, or leaves nothing behind but the data directory.
    pub(crate) async fn start(config: Config, secrets: Secrets) -> Result<Gateway, StartError> {
        let bind_error = |address, key| move |source| StartError::Bind { address, key, source };
        let http = Listener::bind(config.ingest_http, Protocol::Http)
            .await
            .map_err(bind_error(config.ingest_http, "ingest.http"))?;
        let grpc = Listener::bind(config.ingest_grpc, Protocol::Grpc)
            .await
            .map_err(bind_error(config.ingest_grpc, "ingest.grpc"))?;
        let admin =
            TcpListener::bind(config.admin).await.map_err(bind_error(config.admin, "admin.listen"))?;
        let addresses = BoundAddresses {
            http: http.address().map_err(bind_error(config.ingest_http, "ingest.http"))?,
            grpc: grpc.address().map_err(bind_error(config.ingest_grpc, "ingest.grpc"))?,
            admin: admin.local_addr().map_err(bind_error(config.admin, "admin.listen"))?,
        };
        make_private_dir(&config.data_dir)?;

        // A tenth of the memory keeps recent payloads for the senders, a half is for requests in progress.
        let log_options = LogOptions {
            dir: config.data_dir.join("log"),
            durability: config.durability,
            max_bytes: config.log_max_bytes,
            max_age: config.log_max_age,
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: (config.memory_bytes / 10).min(64 << 20),
        };
        let (log, recovered) = tokio::task::spawn_blocking(move || Log::open(log_options))
            .await
            .map_err(|e| StartError::Internal(format!("opening the log: {e}")))??;
        for note in &recovered.notes {
            tracing::warn!(note, "log recovery");
        }
        let instance_id = uuid::Uuid::new_v4().to_string();
        let clients = Clients::with_options(ClientOptions {
            instance_id: Some(instance_id.clone()),
            outbound: config.outbound,
        })
        .map_err(|e| StartError::Internal(e.to_string()))?;
        let delivery = Delivery::new(
            log.clone(),
            clients.clone(),
            tracecast_delivery::Options { max_age: config.log_max_age, ..Default::default() },
        );
        log.subscribe(Arc::new(delivery.clone()));
        let runtime = Arc::new(GatewayRuntime::new(log.clone(), delivery.clone(), clients, addresses));

        let Opened { control, generated_management_key } = Control::open(
            tracecast_control::Options {
                data_dir: config.data_dir.clone(),
                management_key: secrets.management_key,
                master_key: secrets.master_key,
                file_destinations: config.destinations,
                file_keys: config.keys,
                destinations_per_kind: config.destinations_per_kind,
                max_body_bytes: 1 << 20,
            },
            runtime.clone(),
        )
        .await?;

        let memory = Arc::new(TraceMemory::new(TRACE_MEMORY_BYTES));
        for (received, keys) in &recovered.trace_keys {
            memory.restore(*received, keys);
        }
        if !recovered.pending.is_empty() {
            tracing::info!(records = recovered.pending.len(), "backlog taken up");
        }
        delivery.recover(recovered.pending);

        let ingest = Ingest::new(
            IngestOptions {
                auth: config.auth,
                region: config.region,
                body_bytes: config.body_bytes as usize,
                inflated_body_bytes: config.inflated_body_bytes as usize,
                memory_bytes: (config.memory_bytes / 2) as usize,
                media: config.media,
                service_name: config.service_name,
                instance_id: instance_id.clone(),
                addresses: Addresses {
                    http: addresses.http.to_string(),
                    grpc: addresses.grpc.to_string(),
                    admin: addresses.admin.to_string(),
                },
            },
            control.snapshot(),
            log.clone(),
            memory.clone(),
        );
        runtime.attach_ingest(ingest.clone());
        let source: Arc<dyn tracecast_telemetry::Source> = runtime.clone();
        let metrics = Metrics::new(INSTRUMENTS, source, config.telemetry_otlp.as_deref(), &instance_id)
            .map_err(|e| StartError::Internal(e.to_string()))?;
        runtime.attach_metrics(metrics);

        let (stop, stopped) = watch::channel(false);
        let grace = Duration::from_secs(10);
        let servers = vec![
            tokio::spawn(http.serve(ingest.clone(), stopped.clone(), grace)),
            tokio::spawn(grpc.serve(ingest.clone(), stopped.clone(), grace)),
            tokio::spawn(serve_admin(admin, control.clone(), stopped.clone())),
            tokio::spawn(usage::keep_recording(ingest.clone(), control.clone(), stopped)),
        ];
        Ok(Gateway {
            addresses,
            control,
            generated_management_key,
            runtime,
            log,
            delivery,
            ingest,
            region: config.region,
            keeps_log: config.durability != Durability::Memory,
            stop,
            servers,
        })
    }

    pub(crate) fn addresses(&self) -> BoundAddresses {
        self.addresses
    }

    pub(crate) fn region(&self) -> Region {
        self.region
    }

    pub(crate) fn generated_management_key(&self) -> Option<&SecretString> {
        self.generated_management_key.as_ref()
    }

    pub(crate) fn destinations(&self) -> Vec<Arc<Destination>> {
        self.runtime.destinations()
    }

    pub(crate) fn silent_workspaces(&self) -> Vec<String> {
        self.control.silent_workspaces()
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.control.snapshot().load_full()
    }

    /// Stops in order; open requests and sends in flight have `grace` each.
    pub(crate) async fn stop(mut self, grace: Duration) {
        self.runtime.drain();
        self.ingest.drain();
        let _ = self.stop.send(true);
        for mut server in self.servers.drain(..) {
            if tokio::time::timeout(grace, &mut server).await.is_err() {
                server.abort();
            }
        }
        // What the last requests cost, now that no more can come.
        usage::record_last(&self.ingest, &self.control).await;
        if self.keeps_log {
            self.delivery.shutdown(grace).await;
        } else {
            // Nothing outlives the process: what can be sent is sent, the rest is counted.
            self.delivery.drain(grace).await;
        }
        let log = self.log.clone();
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
        self.control.close().await;
        self.runtime.stop_metrics();
    }
}

async fn serve_admin(listener: TcpListener, control: Arc<Control>, mut stop: watch::Receiver<bool>) {
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let served = axum::serve(listener, control.router()).with_graceful_shutdown(stopped);
    if let Err(error) = served.await {
        tracing::error!(%error, "admin listener failed");
    }
}

/// The directory, readable by its owner alone.
fn make_private_dir(path: &std::path::Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::DataDir { path: path.to_owned(), source })
}
