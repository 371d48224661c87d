//! Sockets: accepts connections, bounds them, serves HTTP on them, and lets them finish.
//!
//! A listener that ends refuses nobody who was there already: HTTP/1 connections are closed with their next answer
//! (`connection: close`), HTTP/2 ones by GOAWAY; only what stays silent is closed without a word, after a while. A
//! connection its workspace has no place for is closed after the answer that says so.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::connections::{Connections, Place};

/// Time a client has to send a request's headers, from the connection's start or its last answer on.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// Largest header section of a request. It is also what a connection buffers of a body nobody has read yet.
const HEADER_BYTES: usize = 64 << 10;
/// The same for one stream of an HTTP/2 connection, and for all of them.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Wait after a connection could not be accepted for want of descriptors or memory.
const STARVED: Duration = Duration::from_millis(50);

/// How a listener ends: nothing new is accepted, and what is open gets this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// HTTP/1 connections that are idle stay open so long, so that a request that is on its way is still answered.
    pub linger: Duration,
    /// Open requests may take so long.
    pub grace: Duration,
}

/// A bound socket, ready to serve.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Listener> {
        Ok(Listener { socket: TcpListener::bind(address).await? })
    }

    /// Serves a socket that listens already. Connections that came meanwhile wait in it.
    pub fn from_socket(socket: std::net::TcpListener) -> std::io::Result<Listener> {
        socket.set_nonblocking(true)?;
        Ok(Listener { socket: TcpListener::from_std(socket)? })
    }

    /// Another descriptor of the socket: it listens until both are closed.
    pub fn duplicate(&self) -> std::io::Result<OwnedFd> {
        use std::os::fd::AsFd as _;
        self.socket.as_fd().try_clone_to_owned()
    }

    /// The address that was bound.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves within `connections` until `end` says how to end.
    pub async fn serve<S, B>(
        self,
        service: S,
        connections: Arc<Connections>,
        mut end: watch::Receiver<Option<Ending>>,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let builder = Arc::new(builder());
        let mut open = JoinSet::new();
        let mut starved = false;
        let ending = loop {
            let (stream, peer) = tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => accepted,
                    // The peer has left already.
                    Err(error) if is_of_the_connection(&error) => continue,
                    Err(error) => {
                        // The listener itself is fine: whoever waits is accepted once there is room again.
                        if !std::mem::replace(&mut starved, true) {
                            tracing::warn!(%error, "no connection can be accepted for now");
                        }
                        tokio::time::sleep(STARVED).await;
                        continue;
                    }
                },
                Some(_) = open.join_next() => continue,
                ending = ended(&mut end) => break ending,
            };
            starved = false;
            let Some(place) = connections.enter(peer.ip()) else {
                tracing::debug!(%peer, "connection refused: there are too many");
                continue;
            };
            let _ = stream.set_nodelay(true);
            let connection = Connection { stream, peer, builder: builder.clone(), end: end.clone(), place };
            open.spawn(connection.serve(service.clone()));
        };
        drop(self.socket);
        let all = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(ending.linger + ending.grace, all).await.is_err() {
            tracing::warn!("some connections did not finish in time and were cut");
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES as u32)
        .keep_alive_interval(Duration::from_secs(60));
    builder
}

/// Resolves when the listener is to end; nobody left who could say so is a reason as well.
async fn ended(end: &mut watch::Receiver<Option<Ending>>) -> Ending {
    let at_once = Ending { linger: Duration::ZERO, grace: Duration::ZERO };
    end.wait_for(Option::is_some).await.ok().and_then(|ending| *ending).unwrap_or(at_once)
}

/// Whether accepting failed because of the one connection, and not for want of something.
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::*;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted)
}

/// One accepted connection.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    builder: Arc<Builder<TokioExecutor>>,
    end: watch::Receiver<Option<Ending>>,
    place: Arc<Place>,
}

/// What the requests of a connection told about it.
#[derive(Default)]
struct Seen {
    request: AtomicBool,
    http2: Notify,
}

/// Why a connection is ended.
enum End {
    /// The listener ends.
    Listener(Ending),
    /// Its workspace has too many.
    TooMany,
}

impl Connection {
    async fn serve<S, B>(self, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let Connection { stream, peer, builder, mut end, place } = self;
        let seen = Arc::new(Seen::default());
        let service = {
            let (seen, end, place) = (seen.clone(), end.clone(), place.clone());
            service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(place.clone());
                seen.request.store(true, Ordering::Relaxed);
                let is_http2 = request.version() == Version::HTTP_2;
                if is_http2 {
                    seen.http2.notify_one();
                }
                let end = end.clone();
                let answer = service.call(request);
                async move {
                    let mut response = answer.await?;
                    if !is_http2 && end.borrow().is_some() {
                        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, Infallible>(response)
                }
            })
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut first_request = std::pin::pin!(tokio::time::sleep(HEADERS_WITHIN));
        let mut is_new = true;
        let end = loop {
            tokio::select! {
                result = connection.as_mut() => return tell(peer, result),
                // Until the first bytes have told the protocol nobody else watches the time.
                () = first_request.as_mut(), if is_new => match seen.request.load(Ordering::Relaxed) {
                    true => is_new = false,
                    false => return tracing::debug!(%peer, "connection closed: no request came"),
                },
                ending = ended(&mut end) => break End::Listener(ending),
                () = place.turned_away() => break End::TooMany,
            }
        };
        if let End::Listener(ending) = end {
            tokio::select! {
                result = connection.as_mut() => return tell(peer, result),
                () = seen.http2.notified() => {}
                () = tokio::time::sleep(ending.linger) => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        tell(peer, connection.await);
    }
}

fn tell(peer: SocketAddr, result: Result<(), Box<dyn Error + Send + Sync>>) {
    if let Err(error) = result {
        tracing::debug!(%peer, error, "connection ended early");
    }
}
