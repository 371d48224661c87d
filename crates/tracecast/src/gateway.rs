//! The running gateway: opened in order, wired, and stopped in order.
//!
//! Start: sockets are taken over or bound first (a taken port ends the start before anything else is touched), then a
//! predecessor is told to go, then the log is opened and recovered, then the control plane, then delivery takes up the
//! backlog, then ingest answers.
//! Stop: readiness fails, nothing more is accepted, open requests and sends in flight finish side by side, the log is
//! closed. What takes too long is cut; the log's last sync is not.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracecast_control::{Control, Opened};
use tracecast_delivery::Delivery;
use tracecast_destination::{Destination, Region};
use tracecast_ingest::{Addresses, Connections, Ending, Ingest, Listener, Options as IngestOptions};
use tracecast_log::{Durability, Log, LogError, Options as LogOptions};
use tracecast_rules::{Snapshot, TraceMemory};
use tracecast_sinks::{ClientOptions, Clients};
use tracecast_telemetry::Metrics;

use crate::Exit;
use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::free_space::log_cap;
use crate::handover::{Doorway, Predecessor, Successor};
use crate::memory::Shares;
use crate::memos;
use crate::runtime::{Bounds, GatewayRuntime, INSTRUMENTS};
use crate::usage;

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
    #[error("data directory {path} cannot be used: {source}")]
    DataDir { path: PathBuf, source: io::Error },
    #[error("data directory {path} is in use: {source}")]
    Busy { path: PathBuf, source: io::Error },
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
            StartError::Bind { .. }
            | StartError::DataDir { .. }
            | StartError::Busy { .. }
            | StartError::Log(_) => Exit::Io,
            StartError::Control(Error::Invalid(_) | Error::MasterKey { .. }) => Exit::Usage,
            StartError::Control(_) => Exit::Io,
            StartError::Internal(_) => Exit::Internal,
        }
    }
}

/// A gateway that serves.
pub(crate) struct Gateway {
    addresses: BoundAddresses,
    /// Where a successor asks for `handed`; without it there is none.
    doorway: Option<Doorway>,
    /// The listening sockets, by their config keys.
    handed: Vec<(&'static str, OwnedFd)>,
    control: Arc<Control>,
    generated_management_key: Option<SecretString>,
    runtime: Arc<GatewayRuntime>,
    log: Log,
    delivery: Delivery,
    ingest: Ingest,
    region: Region,
    /// As it was at the start; destinations and keys may have changed since.
    config: Config,
    /// Whether the backlog is on disk.
    keeps_log: bool,
    end: watch::Sender<Option<Ending>>,
    servers: Vec<JoinHandle<()>>,
}

/// How long an orderly end may take, step by step.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Between failing readiness and refusing connections: time for a load balancer to notice.
    notice: Duration,
    connections: Ending,
    sends: Duration,
}

impl Patience {
    /// A stop: whoever comes later is refused. Nobody balances load on loopback.
    fn of_stop(ingest: SocketAddr) -> Patience {
        Patience {
            notice: if ingest.ip().is_loopback() { Duration::ZERO } else { Duration::from_secs(5) },
            connections: Ending { linger: Duration::from_millis(250), grace: Duration::from_secs(10) },
            sends: Duration::from_secs(10),
        }
    }

    /// A handover: whoever comes later waits for the successor, so it must not take long.
    const HANDOVER: Patience = Patience {
        notice: Duration::ZERO,
        connections: Ending { linger: Duration::from_secs(1), grace: Duration::from_secs(5) },
        sends: Duration::from_secs(2),
    };
}

/// Time for each of the steps that nothing skips.
const CLOSE_WITHIN: Duration = Duration::from_secs(8);

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
        let given = config.clone();
        let descriptors = Descriptors::raise();
        let mut predecessor = Predecessor::find(&config.data_dir).await;
        let mut listen = async |key: &'static str, address: SocketAddr| {
            let taken = predecessor.as_mut().and_then(|p| p.take(key, address));
            let listener = match taken {
                Some(socket) => Listener::from_socket(socket),
                None => Listener::bind(address).await,
            };
            let bound = listener.and_then(|l| Ok((l.address()?, (key, l.duplicate()?), l)));
            bound.map_err(|source| StartError::Bind { address, key, source })
        };
        let (http_address, http_handed, http) = listen("ingest.http", config.ingest_http).await?;
        let (grpc_address, grpc_handed, grpc) = listen("ingest.grpc", config.ingest_grpc).await?;
        let (admin_address, admin_handed, admin) = listen("admin.listen", config.admin).await?;
        let addresses = BoundAddresses { http: http_address, grpc: grpc_address, admin: admin_address };
        if let Some(predecessor) = predecessor {
            tracing::info!("taking over from the gateway that runs on the data directory");
            let leaving = predecessor.leave().await;
            leaving.map_err(|source| StartError::Busy { path: config.data_dir.clone(), source })?;
        }
        make_private_dir(&config.data_dir)?;

        let shares = Shares::of(config.memory_bytes, config.durability == Durability::Memory);
        if config.body_bytes.max(config.inflated_body_bytes) > shares.body_max() {
            let most_bytes = shares.body_max();
            tracing::info!(
                most_bytes,
                "limits.memory_bytes has no room for the largest body of the other limits"
            );
        }
        let log_dir = config.data_dir.join("log");
        let log_options = LogOptions {
            max_bytes: if shares.log > 0 {
                shares.log.min(config.log_max_bytes)
            } else {
                log_cap(&log_dir.join("segments"), config.log_max_bytes)
            },
            dir: log_dir,
            durability: config.durability,
            max_age: config.log_max_age,
            retain: config.log_retain,
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: shares.log_cache,
            without_content: Some(tracecast_delivery::without_content),
        };
        let (log, recovered) = tokio::task::spawn_blocking(move || Log::open(log_options))
            .await
            .map_err(|e| StartError::Internal(format!("opening the log: {e}")))??;
        for note in &recovered.notes {
            tracing::warn!(note, "log recovery");
        }
        let instance_id = instance_id(&config.data_dir)?;
        let clients = Clients::with_options(ClientOptions {
            instance_id: Some(instance_id.clone()),
            outbound: config.outbound,
            fragment_bytes: shares.fragments,
        })
        .map_err(|e| StartError::Internal(e.to_string()))?;
        let delivery = Delivery::new(
            log.clone(),
            clients.clone(),
            tracecast_delivery::Options {
                max_age: config.log_max_age,
                in_flight_bytes: shares.in_flight,
                ..Default::default()
            },
        );
        log.set_on_full(config.log_on_full);
        log.subscribe(Arc::new(delivery.clone()));
        let runtime = Arc::new(GatewayRuntime::new(
            log.clone(),
            delivery.clone(),
            clients,
            addresses,
            &instance_id,
            config.operations_destination,
            Bounds { memory_bytes: shares.counted(), max_age: config.log_max_age },
        ));

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

        let memory = Arc::new(TraceMemory::new(shares.traces as usize));
        for (received, keys) in &recovered.trace_keys {
            memory.restore(*received, keys);
        }
        let spans: u64 = recovered.backlog.iter().map(|backlog| backlog.spans).sum();
        if spans > 0 {
            tracing::info!(spans, destinations = recovered.backlog.len(), "backlog taken up");
        }
        memos::recall(&delivery, &config.data_dir);
        delivery.recover();

        let ingest = Ingest::new(
            IngestOptions {
                auth: config.auth,
                region: config.region,
                body_bytes: config.body_bytes.min(shares.body_max()) as usize,
                inflated_body_bytes: config.inflated_body_bytes.min(shares.body_max()) as usize,
                workspace_bytes_per_second: config.workspace_bytes_per_second,
                memory_bytes: shares.ingest as usize,
                dedupe_bytes: shares.dedupe as usize,
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
        let clients = Connections::new(descriptors.ingest, config.workspace_connections);
        runtime.attach_ingest(ingest.clone(), clients.clone());
        let source: Arc<dyn tracecast_telemetry::Source> = runtime.clone();
        let metrics = Metrics::new(INSTRUMENTS, source, config.telemetry_otlp.as_deref(), &instance_id)
            .map_err(|e| StartError::Internal(e.to_string()))?;
        runtime.attach_metrics(metrics);

        // Nobody but the holder of the locks gets here.
        let doorway = Doorway::open(&config.data_dir)
            .inspect_err(|error| tracing::warn!(%error, "a successor will not be able to take over"))
            .ok();

        let (end, ended) = watch::channel(None);
        let operators = Connections::new(descriptors.admin, None);
        let admin_service = TowerToHyperService::new(control.clone().router());
        let servers = vec![
            tokio::spawn(http.serve(ingest.http_service(), clients.clone(), ended.clone())),
            tokio::spawn(grpc.serve(ingest.grpc_service(), clients, ended.clone())),
            tokio::spawn(admin.serve(admin_service, operators, ended.clone())),
            tokio::spawn(usage::keep_recording(ingest.clone(), control.clone(), ended.clone())),
            tokio::spawn(memos::keep(delivery.clone(), config.data_dir, ended.clone())),
            tokio::spawn(runtime.operations().clone().keep_sending(delivery.clone(), ended)),
        ];
        Ok(Gateway {
            addresses,
            doorway,
            handed: vec![http_handed, grpc_handed, admin_handed],
            control,
            generated_management_key,
            runtime,
            log,
            delivery,
            ingest,
            region: config.region,
            config: given,
            keeps_log: config.durability != Durability::Memory,
            end,
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

    /// Why changes of state are not reported, if they should be.
    pub(crate) fn unreported(&self) -> Option<String> {
        self.runtime.operations().trouble()
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

    /// Takes over the destinations and keys of a changed config file, and says what needs a restart.
    pub(crate) async fn reload(&self, config: Config) {
        for key in self.config.restart_needed(&config) {
            tracing::warn!(
                key,
                "this setting has changed in the config file: it takes effect at the next restart"
            );
        }
        let (destinations, keys) = (config.destinations.len(), config.keys.len());
        match self.control.reload(config.destinations, config.keys).await {
            Ok(()) => {
                self.runtime.operations().send_to(config.operations_destination);
                tracing::info!(destinations, keys, "config file taken over");
            }
            Err(error) => tracing::error!(%error, "the config file is not taken over, nothing has changed"),
        }
    }

    /// Resolves when a successor asks for the sockets and is ready for them.
    pub(crate) async fn successor(&self) -> Successor {
        match &self.doorway {
            Some(doorway) => doorway.successor(&self.handed).await,
            None => std::future::pending().await,
        }
    }

    /// Stops in order. `hurry` skips to the last sync.
    pub(crate) async fn stop(self, hurry: impl Future<Output = ()>) {
        let patience = Patience::of_stop(self.addresses.http);
        self.end(patience, Vec::new(), hurry).await;
    }

    /// Stops in order and leaves the data directory to the successor.
    pub(crate) async fn hand_over(self, successor: Successor, hurry: impl Future<Output = ()>) {
        self.end(Patience::HANDOVER, vec![successor], hurry).await;
    }

    async fn end(
        mut self,
        patience: Patience,
        mut successors: Vec<Successor>,
        hurry: impl Future<Output = ()>,
    ) {
        self.runtime.drain();
        let doorway = self.doorway.take();
        let late = async {
            // Too late for the sockets, but not for what comes after the end.
            while let Some(doorway) = &doorway {
                successors.push(doorway.successor(&[]).await);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.finish(patience) => {}
            () = hurry => tracing::warn!("open requests and sends are cut"),
            () = late => {}
        }
        self.ingest.drain();
        self.servers.iter().for_each(JoinHandle::abort);
        // What the last requests cost, now that no more can come.
        within(CLOSE_WITHIN, "usage of the keys", usage::record_last(&self.ingest, &self.control)).await;
        let log = self.log.clone();
        let closed = tokio::task::spawn_blocking(move || log.close());
        within(CLOSE_WITHIN, "the log", async { closed.await.unwrap_or_default() }).await;
        within(CLOSE_WITHIN, "the store", self.control.close()).await;
        for successor in successors {
            successor.released().await;
        }
        let runtime = self.runtime.clone();
        let stopped = tokio::task::spawn_blocking(move || runtime.stop_metrics());
        within(Duration::from_secs(2), "the metrics", async { stopped.await.unwrap_or_default() }).await;
    }

    /// What a hurry cuts short: open requests and sends in flight, which end side by side.
    async fn finish(&mut self, patience: Patience) {
        tokio::time::sleep(patience.notice).await;
        self.handed.clear();
        let _ = self.end.send(Some(patience.connections));
        let servers = async {
            for server in &mut self.servers {
                let _ = server.await;
            }
        };
        if self.keeps_log {
            tokio::join!(servers, self.delivery.shutdown(patience.sends));
        } else {
            // Nothing outlives the process: what can be sent is sent, the rest is counted.
            servers.await;
            self.ingest.drain();
            self.delivery.drain(patience.sends).await;
        }
    }
}

/// Awaits a step of the end for so long; after that the end goes on without it.
async fn within(time: Duration, what: &str, step: impl Future<Output = ()>) {
    if tokio::time::timeout(time, step).await.is_err() {
        tracing::error!("{what} could not be closed in time");
    }
}

/// What this gateway is called in `x-tracecast-via`: the same after a restart, so that what it sent before is known
/// when it comes back.
fn instance_id(data_dir: &std::path::Path) -> Result<String, StartError> {
    let path = data_dir.join("instance-id");
    let known = std::fs::read_to_string(&path).ok();
    if let Some(id) = known.and_then(|text| text.trim().parse::<uuid::Uuid>().ok()) {
        return Ok(id.to_string());
    }
    let id = uuid::Uuid::new_v4().to_string();
    std::fs::write(&path, format!("{id}\n")).map_err(|source| StartError::DataDir { path, source })?;
    Ok(id)
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
