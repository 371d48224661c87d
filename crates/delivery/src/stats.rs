//! What the books do not know: attempts by class, bytes, the last error and how long delivery takes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::State;
use crate::gap::Gap;

/// What the books do not know: live state, last error, latencies. Counters run over the process's life.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Whether and how the destination is being sent to.
    pub state: State,
    /// When `state` was entered, unix nanoseconds.
    pub since_unix_nano: u64,
    /// Requests under way.
    pub in_flight: u32,
    /// Requests made.
    pub attempts: u64,
    /// Requests that repeated an earlier one.
    pub retries: u64,
    /// Bytes sent on the wire, after compression.
    pub bytes_sent: u64,
    /// The latest answer that was not plain success, or why nothing can be sent.
    pub last_error: Option<LastError>,
    /// When spans were last accepted, unix nanoseconds.
    pub last_delivered_unix_nano: Option<u64>,
    /// Accepted-to-accepted latency: p50 and p99 in milliseconds, from a histogram over the process's life.
    pub latency_p50_ms: Option<f64>,
    /// See `latency_p50_ms`.
    pub latency_p99_ms: Option<f64>,
    /// Requests by the class of their answer: (`ok`, n), (`mixed`, n) and so on, every class named.
    pub attempts_by_class: Vec<(&'static str, u64)>,
    /// The same latencies as cumulative buckets, for export.
    pub latency: Latency,
    /// How often each state was entered, every state named.
    pub transitions: Vec<(&'static str, u64)>,
    /// Requests made to find the bad spans of batches that were refused.
    pub bisect_requests: u64,
    /// How long nothing is sent because of earlier answers; zero if something may be sent.
    pub retry_wait: Duration,
    /// Its oldest pending span waits for longer than a working destination needs.
    pub is_lagging: bool,
    /// What it has lost before it came back from a pause of days, until somebody has that sent again.
    pub gap: Option<Gap>,
}

/// The latest trouble, for people: no secret, at most 2 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// The vendor's HTTP status, if there was one.
    pub status: Option<u16>,
    /// What the vendor or the connection said.
    pub excerpt: String,
    /// When, unix nanoseconds.
    pub at_unix_nano: u64,
}

/// Delivery latencies as a cumulative histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// (upper bound in seconds, spans at or below it), ascending.
    pub buckets: Vec<(f64, u64)>,
    /// Sum over all spans, seconds.
    pub sum_seconds: f64,
    /// Spans.
    pub count: u64,
}

/// Class of an answer, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Ok,
    Mixed,
    Retry,
    Isolate,
    Auth,
    Config,
    Gone,
}

impl Class {
    const ALL: [Class; 7] =
        [Class::Ok, Class::Mixed, Class::Retry, Class::Isolate, Class::Auth, Class::Config, Class::Gone];

    fn as_str(self) -> &'static str {
        match self {
            Class::Ok => "ok",
            Class::Mixed => "mixed",
            Class::Retry => "retry",
            Class::Isolate => "isolate",
            Class::Auth => "auth",
            Class::Config => "config",
            Class::Gone => "gone",
        }
    }
}

/// One destination's counters.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) in_flight: AtomicU32,
    attempts: AtomicU64,
    retries: AtomicU64,
    bytes_sent: AtomicU64,
    by_class: [AtomicU64; Class::ALL.len()],
    entered: [AtomicU64; State::ALL.len()],
    pub(crate) bisect_requests: AtomicU64,
    /// Zero: never.
    last_delivered: AtomicU64,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    last_error: Option<LastError>,
    /// Made with the first delivery: a destination that never delivers need not pay for it.
    latency: Option<Box<Histogram>>,
}

impl Meters {
    pub(crate) fn attempted(&self, class: Class, tries: u32, bytes: u64) {
        self.attempts.fetch_add(1, Relaxed);
        if tries > 1 {
            self.retries.fetch_add(1, Relaxed);
        }
        self.bytes_sent.fetch_add(bytes, Relaxed);
        if let Some(counter) = self.by_class.get(class as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// (latency, spans) of what one request delivered.
    pub(crate) fn delivered(&self, latencies: impl Iterator<Item = (Duration, u32)>) {
        self.last_delivered.store(unix_nano(), Relaxed);
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = tally.latency.get_or_insert_default();
        latencies.for_each(|(latency, spans)| histogram.record(latency, spans));
    }

    /// Requests that were taken as a whole.
    pub(crate) fn taken(&self) -> u64 {
        self.by_class.get(Class::Ok as usize).map_or(0, |n| n.load(Relaxed))
    }

    pub(crate) fn entered(&self, state: State) {
        if let Some(counter) = self.entered.get(state as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn last_error(&self) -> Option<LastError> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).last_error.clone()
    }

    pub(crate) fn error(&self, status: Option<u16>, excerpt: String) {
        let error = LastError { status, excerpt, at_unix_nano: unix_nano() };
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).last_error = Some(error);
    }

    /// The vendor's words may quote content that must not be kept any more.
    pub(crate) fn forget_error(&self) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).last_error = None;
    }

    pub(crate) fn stats(&self, state: State, since_unix_nano: u64, retry_wait: Duration) -> Stats {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let quantile = |q: f64| tally.latency.as_ref().and_then(|h| h.quantile_ms(q));
        let last_delivered = self.last_delivered.load(Relaxed);
        let by_class = Class::ALL.iter().zip(&self.by_class);
        let entered = State::ALL.iter().zip(&self.entered);
        Stats {
            state,
            since_unix_nano,
            in_flight: self.in_flight.load(Relaxed),
            attempts: self.attempts.load(Relaxed),
            retries: self.retries.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            last_error: tally.last_error.clone(),
            last_delivered_unix_nano: (last_delivered != 0).then_some(last_delivered),
            latency_p50_ms: quantile(0.50),
            latency_p99_ms: quantile(0.99),
            attempts_by_class: by_class.map(|(c, n)| (c.as_str(), n.load(Relaxed))).collect(),
            latency: tally.latency.as_ref().map(|h| h.export()).unwrap_or_default(),
            transitions: entered.map(|(s, n)| (s.as_str(), n.load(Relaxed))).collect(),
            bisect_requests: self.bisect_requests.load(Relaxed),
            retry_wait,
            is_lagging: false,
            gap: None,
        }
    }
}

/// Powers of two of microseconds, each cut into this many equal steps: at most 12.5 % off.
const STEPS: u64 = 8;
/// Up to 2^42 microseconds, about 50 days.
const POWERS: u64 = 42;
const BUCKETS: usize = ((POWERS - 2) * STEPS) as usize;
/// Upper bounds of the exported buckets, seconds.
const EXPORTED: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0];

/// Counts by logarithmic buckets, so that milliseconds and hours are told with the same relative error.
#[derive(Debug)]
struct Histogram {
    counts: [u64; BUCKETS],
    exported: [u64; EXPORTED.len()],
    sum_seconds: f64,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: [0; BUCKETS], exported: [0; EXPORTED.len()], sum_seconds: 0.0, count: 0 }
    }
}

impl Histogram {
    fn record(&mut self, latency: Duration, spans: u32) {
        let n = u64::from(spans);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count += n;
        }
        let seconds = latency.as_secs_f64();
        let slot = EXPORTED.iter().position(|bound| seconds <= *bound);
        if let Some(count) = slot.and_then(|i| self.exported.get_mut(i)) {
            *count += n;
        }
        self.sum_seconds += seconds * f64::from(spans);
        self.count += n;
    }

    /// The middle of the bucket in which the quantile lies.
    fn quantile_ms(&self, q: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((self.count as f64 * q).ceil() as u64).clamp(1, self.count);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let (low, high) = bounds(found);
        Some((low as f64 + high as f64) / 2.0 / 1_000.0)
    }

    fn export(&self) -> Latency {
        let mut total = 0;
        let cumulative = self.exported.iter().map(|n| {
            total += n;
            total
        });
        Latency {
            buckets: EXPORTED.into_iter().zip(cumulative).collect(),
            sum_seconds: self.sum_seconds,
            count: self.count,
        }
    }
}

/// Below 8 us one bucket each; above, 8 to every power of two.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let power = u64::from(micros.ilog2());
    let step = (micros >> (power - 3)) - STEPS;
    usize::try_from((power - 2) * STEPS + step).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// Lowest value of a bucket and of the next, microseconds.
fn bounds(bucket: usize) -> (u64, u64) {
    let low = |b: u64| if b < STEPS { b } else { (STEPS + b % STEPS) << (b / STEPS - 1) };
    (low(bucket as u64), low(bucket as u64 + 1))
}

/// Wall clock, unix nanoseconds.
pub(crate) fn unix_nano() -> u64 {
    tracecast_log::world::unix_nano()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_its_bucket() {
        for micros in (0..100_000).chain((17..42).map(|p| (1u64 << p) + 12_345)) {
            let (low, high) = bounds(bucket(micros));
            assert!(low <= micros && micros < high, "{micros}: {low}..{high}");
            assert!((high - low) as f64 <= (low.max(8) as f64) / 8.0, "{micros}: {low}..{high}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let mut histogram = Histogram::default();
        for ms in 1..=1_000 {
            histogram.record(Duration::from_millis(ms), 1);
        }
        for (q, expected) in [(0.50, 500.0), (0.99, 990.0)] {
            let found = histogram.quantile_ms(q).unwrap();
            assert!((found - expected).abs() / expected < 0.125, "{q}: {found}");
        }
    }

    #[test]
    fn exported_buckets_are_cumulative() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_millis(3), 2);
        histogram.record(Duration::from_millis(700), 3);
        histogram.record(Duration::from_secs(1_000_000), 1);
        let exported = histogram.export();
        let at = |bound: f64| exported.buckets.iter().find(|(b, _)| *b == bound).unwrap().1;
        assert_eq!((at(0.005), at(0.5), at(1.0), at(86_400.0), exported.count), (2, 2, 5, 5, 6));
        assert!((exported.sum_seconds - 1_000_002.106).abs() < 1e-6);
    }
}
