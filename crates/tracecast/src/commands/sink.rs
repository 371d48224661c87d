//! `tracecast sink`: a counting receiver with faults, and the debugging receiver (`--print`).

use std::net::SocketAddr;
use std::time::Duration;

use tracecast_loadkit::sink::{Options, Sink};

use super::block_on;
use crate::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4319")]
    listen: SocketAddr,
    /// Time to every answer, milliseconds.
    #[arg(long, value_name = "N", default_value_t = 0)]
    latency_ms: u64,
    /// Share of requests that fail, percent.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    fail_percent: f64,
    /// Status of the requests that fail.
    #[arg(long, value_name = "STATUS", default_value_t = 503)]
    status: u16,
    /// `Retry-After` of the requests that fail, seconds.
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<u32>,
    /// Read requests and never answer.
    #[arg(long)]
    stall: bool,
    /// Cut connections instead of answering.
    #[arg(long)]
    reset: bool,
    /// Show incoming generations readably: model, tokens, cost, messages.
    #[arg(long)]
    print: bool,
    /// Say the address, and at the end the counts, as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Exit {
    block_on(async move {
        let options = Options {
            latency: Duration::from_millis(args.latency_ms),
            fail_percent: args.fail_percent,
            fail_status: args.status,
            retry_after: args.retry_after,
            stall: args.stall,
            reset: args.reset,
            print: args.print,
            ..Options::default()
        };
        let sink = match Sink::start(args.listen, options).await {
            Ok(sink) => sink,
            Err(error) => {
                eprintln!("tracecast: cannot listen on {} (--listen): {error}", args.listen);
                return Exit::Io;
            }
        };
        if args.json {
            println!("{}", serde_json::json!({ "listen": sink.address().to_string() }));
        } else {
            println!("sink  http://{}   counts: GET /stats, ids: GET /ids", sink.address());
        }
        crate::commands::until_stopped().await;
        let stats = sink.stats();
        if args.json {
            println!("{}", serde_json::to_string(&stats).unwrap_or_default());
        } else {
            println!(
                "{} requests, {} spans, {} distinct, {} duplicates, {} bytes",
                stats.requests, stats.spans, stats.distinct_ids, stats.duplicates, stats.bytes
            );
        }
        Exit::Fine
    })
}
