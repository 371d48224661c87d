//! One run: sinks and subject started, warmed up, measured over load and delivery, verified.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracecast_loadkit::load::{self, Pace};
use tracecast_loadkit::sink::{self, Sink};

use crate::codec;
use crate::expected::{Expected, Verdict};
use crate::report::{Measured, Percentiles};
use crate::scenario::{Rules, Scenario};
use crate::subject::{PRIVATE, Started, Subject};

/// A sink without news for this long has what it will get.
const QUIET: Duration = Duration::from_secs(10);
/// A load that is not over by then is cut, and counts what it has.
const LONGEST: Duration = Duration::from_secs(180);
/// What is left to do after the last delivery (journal, segment files) is done by then, and counted.
const AFTERWARDS: Duration = Duration::from_millis(1200);
/// How long an idle process is watched.
const IDLE: Duration = Duration::from_secs(20);

/// Where runs happen.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) seed: u64,
    /// Of the closed loop.
    pub(crate) connections: usize,
    /// So many cores for the measured process; all if absent.
    pub(crate) cores: Option<usize>,
}

/// Sinks and subject.
pub(crate) struct Stage {
    pub(crate) started: Started,
    pub(crate) sinks: Vec<Sink>,
}

impl Stage {
    pub(crate) async fn set(place: &Place, scenario: &Scenario, subject: &Subject) -> anyhow::Result<Stage> {
        let mut sinks = Vec::new();
        let options = sink::Options { tally: true, ..sink::Options::default() };
        for _ in 0..scenario.destinations {
            sinks.push(Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), options.clone()).await?);
        }
        let urls: Vec<String> = sinks.iter().map(|sink| format!("http://{}", sink.address())).collect();
        let started = subject.start(scenario, &urls, place).await?;
        Ok(Stage { started, sinks })
    }

    /// A load on it of so many spans.
    pub(crate) fn options(&self, place: &Place, scenario: &Scenario, spans: u64) -> load::Options {
        load::Options {
            url: self.started.url.clone(),
            key: self.started.key.clone(),
            spans_max: Some(spans),
            ..options(place, scenario)
        }
    }

    /// Waits until every sink has so many spans, or nothing new has come for a while.
    pub(crate) async fn arrived(&self, spans: u64) {
        let (mut last, mut changed) = (0, Instant::now());
        loop {
            let counts: Vec<u64> = self.sinks.iter().map(|sink| sink.stats().distinct_ids).collect();
            if counts.iter().all(|count| *count >= spans) || changed.elapsed() > QUIET {
                return;
            }
            let sum = counts.iter().sum();
            if sum != last {
                (last, changed) = (sum, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn options(place: &Place, scenario: &Scenario) -> load::Options {
    load::Options {
        url: String::new(),
        key: None,
        pace: match scenario.rate {
            Some(requests) => Pace::Rate(requests * scenario.spans_per_request as f64),
            None => Pace::Closed(place.connections),
        },
        spans_per_request: scenario.spans_per_request,
        body_bytes: scenario.body_bytes,
        duration: LONGEST,
        spans_max: None,
        until_refused: false,
        gzip: scenario.gzip_in,
        seed: place.seed,
    }
}

/// Load, until everything has arrived.
pub(crate) async fn load(place: &Place, scenario: &Scenario, subject: &Subject) -> anyhow::Result<Measured> {
    let stage = Stage::set(place, scenario, subject).await?;
    // Connections, caches and recycled segment files are there before the clock runs.
    let warm = scenario.rate.map_or(scenario.spans / 4, |_| scenario.spans / 10);
    let warm = load::run(stage.options(place, scenario, warm), None).await?;
    stage.arrived(warm.acknowledged_spans).await;
    tokio::time::sleep(AFTERWARDS).await;
    let sink_requests = |stage: &Stage| stage.sinks.iter().map(|sink| sink.stats().requests).sum::<u64>();
    let requests_before = sink_requests(&stage);
    stage.sinks.iter().for_each(|sink| drop(sink.take_tally()));

    let options = stage.options(place, scenario, scenario.spans);
    let process = &stage.started.process;
    let (cpu_before, began) = (process.cpu_seconds()?, Instant::now());
    let report = load::run(options.clone(), None).await?;
    stage.arrived(warm.acknowledged_spans + report.acknowledged_spans).await;
    let seconds = began.elapsed().as_secs_f64();
    tokio::time::sleep(AFTERWARDS).await;
    let cpu = process.cpu_seconds()? - cpu_before;

    let mut verdict = Verdict::default();
    let (mut delays_us, mut duplicates) = (Vec::new(), 0);
    for (i, sink) in stage.sinks.iter().enumerate() {
        let private =
            i == PRIVATE && matches!(subject, Subject::Gateway(_)) && scenario.rules == Rules::Usual;
        let tally = sink.take_tally();
        let found = Expected::of(&options, private)?.judge(&report, &tally);
        verdict.missing += found.missing;
        verdict.altered += found.altered;
        delays_us.extend_from_slice(&tally.delays_us);
        duplicates += sink.stats().duplicates;
    }
    let sent = sink_requests(&stage) - requests_before;
    Ok(Measured {
        scenario: scenario.name,
        subject: subject.name(),
        spans: report.acknowledged_spans,
        refused_requests: report.requests - report.acknowledged_requests,
        cpu_seconds_per_million: cpu * 1e6 / report.acknowledged_spans.max(1) as f64,
        spans_per_second: report.acknowledged_spans as f64 / seconds,
        spans_per_delivery: report.acknowledged_spans as f64 * stage.sinks.len() as f64 / sent.max(1) as f64,
        ack_ms: Percentiles { p50: report.ack_p50_ms, p99: report.ack_p99_ms, p999: report.ack_p999_ms },
        delivery_ms: Percentiles::of_us(delays_us),
        peak_rss_mb: process.peak_rss_mb()?,
        missing: verdict.missing,
        altered: verdict.altered,
        duplicates,
        ..Measured::default()
    })
}

/// Nothing at all, after a little load.
pub(crate) async fn idle(place: &Place, scenario: &Scenario, subject: &Subject) -> anyhow::Result<Measured> {
    let stage = Stage::set(place, scenario, subject).await?;
    let warm = load::run(stage.options(place, scenario, 5_000), None).await?;
    stage.arrived(warm.acknowledged_spans).await;
    tokio::time::sleep(2 * AFTERWARDS).await;
    let process = &stage.started.process;
    let (cpu_before, began) = (process.cpu_seconds()?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let share = (process.cpu_seconds()? - cpu_before) / began.elapsed().as_secs_f64();
    Ok(Measured {
        scenario: scenario.name,
        subject: subject.name(),
        peak_rss_mb: process.peak_rss_mb()?,
        remarks: vec![format!("{:.2} % of a core while idle (target 0.5 %)", share * 100.0)],
        ..Measured::default()
    })
}

/// What the compression alone costs, on the bytes of the scenario.
pub(crate) fn zlib(place: &Place, scenario: &Scenario) -> anyhow::Result<Measured> {
    Ok(Measured {
        scenario: scenario.name,
        subject: Subject::Zlib.name(),
        cpu_seconds_per_million: codec::cpu_seconds_per_million(&options(place, scenario), scenario.gzip_in)?,
        ..Measured::default()
    })
}
