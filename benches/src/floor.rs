//! The floor: the least a forwarder of OTLP can do that stores nothing and decides nothing. It takes a body, answers,
//! joins what came within 200 ms or the bytes of 256 spans of 5 KB, and posts that to every destination.
//!
//! Bodies of whole OTLP requests joined are an OTLP request again, so nothing has to be read; and joined they are by
//! being written one after the other, so nothing is copied. All destinations get the same batch.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

const BATCH_BYTES: usize = 256 * 5 * 1024;
const BATCH_AGE: Duration = Duration::from_millis(200);
/// Bodies on their way to the batcher; beyond, the client waits.
const QUEUE: usize = 1024;
/// Requests on their way to one destination.
const IN_FLIGHT: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// URL to forward to; repeatable.
    #[arg(long, value_name = "URL", required = true)]
    to: Vec<String>,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    println!("ingest http  http://{}", listener.local_addr()?);
    let uris: Result<Vec<Uri>, _> =
        args.to.iter().map(|url| url.parse().with_context(|| format!("--to {url}"))).collect();
    let (queue, bodies) = mpsc::channel(QUEUE);
    tokio::spawn(forward(uris?, bodies));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let queue = queue.clone();
        let service = service_fn(move |request| take(request, queue.clone()));
        tokio::spawn(async move {
            // A connection that breaks off is the client's affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A request body as it was read: nothing is put together.
type Chunks = Vec<Bytes>;

async fn take(
    request: Request<Incoming>,
    queue: mpsc::Sender<Chunks>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut chunks = Chunks::new();
    let mut body = request.into_body();
    let mut status = StatusCode::OK;
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => chunks.push(data),
            Ok(Err(_)) => {}
            Err(_) => status = StatusCode::BAD_REQUEST,
        }
    }
    if status == StatusCode::OK && queue.send(chunks).await.is_err() {
        status = StatusCode::SERVICE_UNAVAILABLE;
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}

/// Joins bodies and posts them; several requests at a time.
async fn forward(uris: Vec<Uri>, mut bodies: mpsc::Receiver<Chunks>) {
    let client: Client<HttpConnector, Joined> = Client::builder(TokioExecutor::new()).build_http();
    let targets: Vec<_> = uris.into_iter().map(|uri| (uri, Arc::new(Semaphore::new(IN_FLIGHT)))).collect();
    while let Some(mut joined) = bodies.recv().await {
        let until = Instant::now() + BATCH_AGE;
        let mut bytes: usize = joined.iter().map(Bytes::len).sum();
        while bytes < BATCH_BYTES {
            match tokio::time::timeout_at(until, bodies.recv()).await {
                Ok(Some(next)) => {
                    bytes += next.iter().map(Bytes::len).sum::<usize>();
                    joined.extend(next);
                }
                Ok(None) | Err(_) => break,
            }
        }
        for (uri, permits) in &targets {
            let body = Joined { chunks: joined.iter().cloned().collect(), left: bytes as u64 };
            let request =
                Request::post(uri.clone()).header("content-type", "application/x-protobuf").body(body);
            let (Ok(request), Ok(permit)) = (request, permits.clone().acquire_owned().await) else { return };
            let sent = client.request(request);
            tokio::spawn(async move {
                match sent.await {
                    Ok(answer) => drop(answer.into_body().collect().await),
                    Err(error) => eprintln!("floor: {error}"),
                }
                drop(permit);
            });
        }
    }
}

/// Chunks as one body of known length.
struct Joined {
    chunks: VecDeque<Bytes>,
    left: u64,
}

impl Body for Joined {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.pop_front();
        self.left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
