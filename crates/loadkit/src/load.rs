//! The load generator: open or closed loop, unique ids, and a record of every id that was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::traffic::{Template, span_id};

/// What to send, and how hard.
#[derive(Clone, Debug)]
pub struct Options {
    /// Full URL of `POST /v1/traces`.
    pub url: String,
    /// Bearer key, if any.
    pub key: Option<String>,
    /// How requests are paced.
    pub pace: Pace,
    /// Spans per request.
    pub spans_per_request: usize,
    /// Prompt and completion bytes per span.
    pub body_bytes: usize,
    /// Stop after this time.
    pub duration: Duration,
    /// Stop after this many spans, if earlier.
    pub spans_max: Option<u64>,
    /// Stop at the first request that is not acknowledged.
    pub until_refused: bool,
    /// Compress requests with gzip.
    pub gzip: bool,
    /// The same seed sends the same bodies.
    pub seed: u64,
}

impl Options {
    /// The request bodies of this run: request `n` is made from the `n`th of these, round and round.
    pub fn templates(&self) -> Vec<Template> {
        (0..8).map(|i| Template::new(self.seed + i, self.spans_per_request, self.body_bytes)).collect()
    }
}

/// Open or closed loop.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Spans per second, whatever the answers.
    Rate(f64),
    /// So many requests in flight, each sent when one is answered.
    Closed(usize),
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Requests sent, acknowledged and refused (by any answer that is not 2xx, or none).
    pub requests: u64,
    /// Requests answered 2xx.
    pub acknowledged_requests: u64,
    /// Spans in requests answered 2xx.
    pub acknowledged_spans: u64,
    /// Requests not acknowledged, by status; 0 is no answer.
    pub refused: std::collections::BTreeMap<u16, u64>,
    /// Request body bytes sent, before compression.
    pub bytes: u64,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Acknowledged spans per second.
    pub spans_per_second: f64,
    /// Time to the answer, milliseconds.
    pub ack_p50_ms: f64,
    /// See `ack_p50_ms`.
    pub ack_p99_ms: f64,
    /// See `ack_p50_ms`.
    pub ack_p999_ms: f64,
    /// See `ack_p50_ms`.
    pub ack_max_ms: f64,
    /// Ranges of span numbers that were acknowledged: first and count. Ids are `span_id(run, number)`.
    #[serde(skip)]
    pub acked: Vec<(u64, u64)>,
    /// The run's number within the ids.
    pub run: u32,
}

impl Report {
    /// Every acknowledged span id.
    pub fn acked_ids(&self) -> impl Iterator<Item = [u8; 8]> {
        self.acked.iter().flat_map(|(first, n)| (*first..first + n).map(|i| span_id(self.run, i)))
    }
}

/// Called after every answered request with the spans acknowledged so far.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// Runs the load. It stops by itself; every request in flight is awaited.
pub async fn run(options: Options, progress: Option<Progress>) -> Result<Report, reqwest::Error> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(1024)
        .build()?;
    let nanos = unix_nano();
    let state = Arc::new(State {
        templates: options.templates(),
        run: (nanos ^ options.seed) as u32 & 0xff_ffff,
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        outcome: Mutex::new(Outcome::default()),
        client,
        options,
        progress,
    });
    let started = Instant::now();
    let deadline = started + state.options.duration;
    match state.options.pace {
        Pace::Closed(n) => {
            let workers: Vec<_> = (0..n.max(1))
                .map(|_| {
                    let state = state.clone();
                    tokio::spawn(async move {
                        while Instant::now() < deadline && !state.stop.load(Ordering::Relaxed) {
                            let Some(first) = state.take() else { break };
                            state.send(first).await;
                        }
                    })
                })
                .collect();
            for worker in workers {
                let _ = worker.await;
            }
        }
        Pace::Rate(rate) => {
            let per_request =
                Duration::from_secs_f64(state.options.spans_per_request as f64 / rate.max(0.001));
            let mut ticks = tokio::time::interval(per_request);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            let mut open = tokio::task::JoinSet::new();
            while Instant::now() < deadline && !state.stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                let Some(first) = state.take() else { break };
                let state = state.clone();
                open.spawn(async move { state.send(first).await });
                while open.try_join_next().is_some() {}
            }
            while open.join_next().await.is_some() {}
        }
    }
    Ok(state.report(started.elapsed()))
}

struct State {
    options: Options,
    templates: Vec<Template>,
    run: u32,
    next: AtomicU64,
    stop: AtomicBool,
    outcome: Mutex<Outcome>,
    client: reqwest::Client,
    progress: Option<Progress>,
}

#[derive(Default)]
struct Outcome {
    report: Report,
    latencies_us: Vec<u32>,
}

impl State {
    /// The first span number of the next request, unless enough have been taken.
    fn take(&self) -> Option<u64> {
        let n = self.options.spans_per_request as u64;
        let first = self.next.fetch_add(n, Ordering::Relaxed);
        match self.options.spans_max {
            Some(max) if first >= max => {
                self.stop.store(true, Ordering::Relaxed);
                None
            }
            _ => Some(first),
        }
    }

    async fn send(&self, first: u64) {
        let n = self.options.spans_per_request as u64;
        let template = &self.templates[(first / n.max(1)) as usize % self.templates.len()];
        let mut body = template.request(self.run, first, unix_nano());
        let bytes = body.len() as u64;
        let mut request =
            self.client.post(&self.options.url).header("content-type", "application/x-protobuf");
        if let Some(key) = &self.options.key {
            request = request.bearer_auth(key);
        }
        if self.options.gzip {
            body = gzip(&body);
            request = request.header("content-encoding", "gzip");
        }
        let started = Instant::now();
        let status = match request.body(body).send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                // The answer must be read to its end, or the connection is lost to the pool.
                let _ = response.bytes().await;
                status
            }
            Err(_) => 0,
        };
        let took = started.elapsed();
        let mut guard = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = &mut *guard;
        outcome.report.requests += 1;
        outcome.report.bytes += bytes;
        if (200..300).contains(&status) {
            outcome.report.acknowledged_requests += 1;
            outcome.report.acknowledged_spans += n;
            outcome.report.acked.push((first, n));
            outcome.latencies_us.push(took.as_micros().min(u128::from(u32::MAX)) as u32);
        } else {
            *outcome.report.refused.entry(status).or_insert(0) += 1;
            if self.options.until_refused {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        let so_far = outcome.report.acknowledged_spans;
        drop(guard);
        if let Some(progress) = &self.progress {
            progress(so_far);
        }
    }

    fn report(&self, took: Duration) -> Report {
        let mut guard = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latencies = std::mem::take(&mut guard.latencies_us);
        let mut report = std::mem::take(&mut guard.report);
        latencies.sort_unstable();
        let at = |q: f64| {
            let i = ((latencies.len() as f64 * q) as usize).min(latencies.len().saturating_sub(1));
            latencies.get(i).map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        report.ack_p50_ms = at(0.5);
        report.ack_p99_ms = at(0.99);
        report.ack_p999_ms = at(0.999);
        report.ack_max_ms = at(1.0);
        report.seconds = took.as_secs_f64();
        report.spans_per_second = report.acknowledged_spans as f64 / report.seconds.max(1e-9);
        report.run = self.run;
        report.acked.sort_unstable();
        report
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn unix_nano() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
