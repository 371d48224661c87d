//! Sockets: accepts connections, bounds them, serves HTTP or gRPC on them, and lets them finish.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Ingest;

/// Time a client has to send a request's headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// Largest header section of a request.
const HEADER_BYTES: usize = 64 << 10;
/// Connections one address may hold; loopback is exempt, since a whole host sits behind it.
const CONNECTIONS_PER_ADDRESS: usize = 1024;
/// Connections of a listener together.
const CONNECTIONS: usize = 16 << 10;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/HTTP, `/v1/events`: HTTP/1.1 and HTTP/2.
    Http,
    /// OTLP/gRPC.
    Grpc,
}

/// A bound socket, ready to serve.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    protocol: Protocol,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr, protocol: Protocol) -> std::io::Result<Listener> {
        Ok(Listener { socket: TcpListener::bind(address).await?, protocol })
    }

    /// The address that was bound.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop` turns true, then lets open requests finish for at most `grace`.
    pub async fn serve(self, ingest: Ingest, mut stop: watch::Receiver<bool>, grace: Duration) {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_buf_size(HEADER_BYTES.max(512 << 10))
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_concurrent_streams(256)
            .max_header_list_size(HEADER_BYTES as u32)
            .keep_alive_interval(Duration::from_secs(60));
        let builder = Arc::new(builder);
        let graceful = GracefulShutdown::new();
        let open = Arc::new(OpenConnections::default());
        loop {
            let (stream, peer) = tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors, or the peer left already: the listener itself is fine.
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = stopped(&mut stop) => break,
            };
            let Some(slot) = open.enter(peer.ip()) else {
                tracing::debug!(%peer, "connection refused: too many from this address");
                continue;
            };
            let _ = stream.set_nodelay(true);
            let io = TokioIo::new(stream);
            let builder = builder.clone();
            let watcher = graceful.watcher();
            match self.protocol {
                Protocol::Http => {
                    let ingest = ingest.clone();
                    let service = service_fn(move |request| {
                        let ingest = ingest.clone();
                        async move { Ok::<_, Infallible>(ingest.handle_http(request).await) }
                    });
                    tokio::spawn(async move {
                        let connection = builder.serve_connection(io, service).into_owned();
                        if let Err(error) = watcher.watch(connection).await {
                            tracing::debug!(%peer, error, "connection ended early");
                        }
                        drop(slot);
                    });
                }
                Protocol::Grpc => {
                    let ingest = ingest.clone();
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let ingest = ingest.clone();
                        async move {
                            let request = request.map(|b| b.boxed_unsync());
                            Ok::<_, Infallible>(ingest.handle_grpc(request).await)
                        }
                    });
                    tokio::spawn(async move {
                        let connection = builder.serve_connection(io, service).into_owned();
                        if let Err(error) = watcher.watch(connection).await {
                            tracing::debug!(%peer, error, "connection ended early");
                        }
                        drop(slot);
                    });
                }
            }
        }
        drop(self.socket);
        if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
            tracing::warn!("some connections did not finish in time and were cut");
        }
    }
}

/// Resolves when `stop` turns true, or nobody is left who could turn it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Open connections, by address.
#[derive(Debug, Default)]
struct OpenConnections {
    by_address: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// A place among the open connections; given back when dropped.
struct ConnectionSlot {
    open: Arc<OpenConnections>,
    address: IpAddr,
}

impl OpenConnections {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionSlot> {
        let mut guard = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, by_address) = &mut *guard;
        let here = by_address.entry(address).or_insert(0);
        if *total >= CONNECTIONS || (*here >= CONNECTIONS_PER_ADDRESS && !address.is_loopback()) {
            return None;
        }
        *here += 1;
        *total += 1;
        drop(guard);
        Some(ConnectionSlot { open: self.clone(), address })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut guard = self.open.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, by_address) = &mut *guard;
        *total = total.saturating_sub(1);
        if let Some(here) = by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}
