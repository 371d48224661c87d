//! HTTP/1.1 against HTTP/2 towards a destination: what one batch costs to hand over, client and receiver together, by
//! the size of the batch and the number of requests at once. It is why the sinks speak HTTP/1.1.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Receives bodies and throws them away, over either version.
async fn receiver() -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Window updates are small: they must not wait for each other.
            stream.set_nodelay(true).expect("a TCP stream");
            tokio::spawn(async move {
                let mut builder = Builder::new(TokioExecutor::new());
                builder.http2().initial_stream_window_size(1 << 20).initial_connection_window_size(8 << 20);
                // A connection that breaks off is the client's affair.
                let _ = builder.serve_connection(TokioIo::new(stream), service_fn(take)).await;
            });
        }
    });
    address
}

async fn take(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(Response::new(Full::default()))
}

fn clients() -> [(&'static str, reqwest::Client); 2] {
    let build = |builder: reqwest::ClientBuilder| builder.no_proxy().tcp_nodelay(true).build();
    let http1 = build(reqwest::Client::builder().http1_only()).expect("a client");
    let http2 = build(reqwest::Client::builder().http2_prior_knowledge()).expect("a client");
    [("http1", http1), ("http2", http2)]
}

fn versions(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let url: Arc<str> = format!("http://{}/v1/traces", runtime.block_on(receiver())).into();
    for (bytes, at_once) in [(5 << 10, 1), (5 << 10, 16), (1 << 20, 1), (1 << 20, 8)] {
        let mut group = criterion.benchmark_group(format!("{} KiB, {at_once} at once", bytes >> 10));
        group.throughput(Throughput::Bytes(bytes * at_once));
        let body = Bytes::from(vec![7; bytes as usize]);
        for (name, client) in clients() {
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| {
                    let send = |_| client.post(&*url).body(body.clone()).send();
                    for answer in runtime.block_on(join_all((0..at_once).map(send))) {
                        assert!(answer.expect("it is taken").status().is_success());
                    }
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, versions);
criterion_main!(benches);
