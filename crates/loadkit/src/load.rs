//! The load generator: open or closed loop, unique ids, and a record of every id that was acknowledged.
//!
//! In a closed loop a client that is told to wait (429 or 503 with `Retry-After`) waits so long and sends the same
//! request again, as exporters do. An open loop goes on at its rate, which is what it is for.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
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
    /// So many requests in flight, each sent when one is answered. Who is told to wait does.
    Closed(usize),
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Requests made; one that is sent again after a wait is the same.
    pub requests: u64,
    /// Requests answered 2xx.
    pub acknowledged_requests: u64,
    /// Spans in requests answered 2xx.
    pub acknowledged_spans: u64,
    /// Answers that are not 2xx, by status; 0 is no answer.
    pub refused: std::collections::BTreeMap<u16, u64>,
    /// How long clients waited because they were told to, seconds in all.
    pub backoff_seconds: f64,
    /// Bytes of the requests' bodies, before compression.
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
    let state = Arc::new(State {
        templates: options.templates(),
        run: next_run(),
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
                            state.send_patiently(first, deadline).await;
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

/// The number of another run: by chance between processes, never the same twice in one.
fn next_run() -> u32 {
    static FIRST: LazyLock<u32> = LazyLock::new(|| unix_nano() as u32);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    // The lowest bit is always set in ids.
    FIRST.wrapping_add(2 * RUNS.fetch_add(1, Ordering::Relaxed)) & 0xff_ffff
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

    /// Sends it until the answer is not "later", or until there is no time left.
    async fn send_patiently(&self, first: u64, deadline: Instant) {
        let body = self.body(first);
        while let Some(wait) = self.send_body(first, &body).await {
            let wait = wait.min(deadline.saturating_duration_since(Instant::now()));
            tokio::time::sleep(wait).await;
            self.outcome().report.backoff_seconds += wait.as_secs_f64();
            if Instant::now() >= deadline || self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }

    async fn send(&self, first: u64) {
        let body = self.body(first);
        self.send_body(first, &body).await;
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request that begins with this span, as it is sent.
    fn body(&self, first: u64) -> Bytes {
        let n = self.options.spans_per_request as u64;
        let template = &self.templates[(first / n.max(1)) as usize % self.templates.len()];
        let body = template.request(self.run, first, unix_nano());
        let mut outcome = self.outcome();
        outcome.report.requests += 1;
        outcome.report.bytes += body.len() as u64;
        drop(outcome);
        if self.options.gzip { gzip(&body).into() } else { body.into() }
    }

    /// How long the client is to wait before it sends the same again, if it was told so.
    async fn send_body(&self, first: u64, body: &Bytes) -> Option<Duration> {
        let n = self.options.spans_per_request as u64;
        let mut request =
            self.client.post(&self.options.url).header("content-type", "application/x-protobuf");
        if let Some(key) = &self.options.key {
            request = request.bearer_auth(key);
        }
        if self.options.gzip {
            request = request.header("content-encoding", "gzip");
        }
        let started = Instant::now();
        let (status, wait) = match request.body(body.clone()).send().await {
            Ok(response) => {
                let (status, wait) = (response.status().as_u16(), told_to_wait(&response));
                // The answer must be read to its end, or the connection is lost to the pool.
                let _ = response.bytes().await;
                (status, wait)
            }
            Err(_) => (0, None),
        };
        let took = started.elapsed();
        let mut guard = self.outcome();
        let outcome = &mut *guard;
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
        wait
    }

    fn report(&self, took: Duration) -> Report {
        let mut guard = self.outcome();
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

/// `Retry-After` in seconds, of an answer that means "later".
fn told_to_wait(response: &reqwest::Response) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 503) {
        return None;
    }
    let value = response.headers().get(reqwest::header::RETRY_AFTER)?;
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Options as SinkOptions, Sink};

    fn options(sink: &Sink, pace: Pace) -> Options {
        Options {
            url: format!("http://{}/v1/traces", sink.address()),
            key: None,
            pace,
            spans_per_request: 2,
            body_bytes: 100,
            duration: Duration::from_secs(600),
            spans_max: Some(20),
            until_refused: false,
            gzip: true,
            seed: 3,
        }
    }

    async fn sink(retry_after: Option<u32>) -> Sink {
        let options = SinkOptions { fail_percent: 100.0, retry_after, ..SinkOptions::default() };
        Sink::start(([127, 0, 0, 1], 0).into(), options).await.expect("a sink")
    }

    #[tokio::test]
    async fn a_client_that_is_told_to_wait_does_and_sends_the_same_again() {
        let sink = sink(Some(1)).await;
        let running = tokio::spawn(run(options(&sink, Pace::Closed(3)), None));
        while sink.stats().failed_requests < 6 {
            tokio::task::yield_now().await;
        }
        sink.behave(SinkOptions::default());
        let report = running.await.expect("no panic").expect("a client");
        let refused = sink.stats().failed_requests;
        assert_eq!((report.requests, report.acknowledged_requests, report.acknowledged_spans), (10, 10, 20));
        assert_eq!(report.refused.get(&503), Some(&refused));
        assert_eq!(report.backoff_seconds, refused as f64, "a second for each refusal");
        let stats = sink.stats();
        assert_eq!((stats.distinct_ids, stats.duplicates, stats.requests), (20, 0, 10 + refused));
    }

    #[tokio::test]
    async fn without_a_time_to_wait_the_next_request_follows_and_an_open_loop_goes_on() {
        for (retry_after, pace) in [(None, Pace::Closed(3)), (Some(600), Pace::Rate(1e6))] {
            let sink = sink(retry_after).await;
            let report = run(options(&sink, pace), None).await.expect("a client");
            assert_eq!((report.requests, report.acknowledged_requests), (10, 0));
            assert_eq!((report.refused.get(&503), report.backoff_seconds), (Some(&10), 0.0));
        }
    }
}
