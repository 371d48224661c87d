//! A gigabyte of backlog: how fast one destination gets it, and what live traffic notices.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tracecast_loadkit::load::{self, Pace};

use crate::expected::{Expected, Verdict};
use crate::report::{Measured, Percentiles};
use crate::run::{Place, Stage};
use crate::scenario::Scenario;
use crate::subject::Subject;

/// Live traffic during the drain: this share of what the machine can.
const LIVE_SHARE: f64 = 0.25;
const LIVE_SECONDS: f64 = 10.0;

/// The first destination is paused while a gigabyte is sent, then resumed: once with nothing else going on, once
/// beside live traffic at a fixed rate.
pub(crate) async fn run(place: &Place, scenario: &Scenario, subject: &Subject) -> anyhow::Result<Measured> {
    let stage = Stage::set(place, scenario, subject).await?;
    let listed = stage.started.api("/observability/destinations", None).await?;
    let id = listed["data"][0]["id"].as_str().context("there is a destination")?.to_owned();
    let switch = async |word: &str| {
        stage.started.api(&format!("/observability/destinations/{id}/{word}"), Some(&json!({}))).await
    };
    let options = stage.options(place, scenario, scenario.spans);
    let mut reports = Vec::new();
    let mut acknowledged = 0;

    // Live: what comes in goes out.
    let began = Instant::now();
    let report = load::run(options.clone(), None).await?;
    acknowledged += report.acknowledged_spans;
    stage.arrived(acknowledged).await;
    let live = report.acknowledged_spans as f64 / began.elapsed().as_secs_f64();
    reports.push(report);

    // The same, kept back, then drained with nothing else going on.
    switch("pause").await?;
    let report = load::run(options.clone(), None).await?;
    let kept = report.acknowledged_spans;
    acknowledged += kept;
    reports.push(report);
    let process = &stage.started.process;
    let (cpu_before, began) = (process.cpu_seconds()?, Instant::now());
    switch("resume").await?;
    stage.arrived(acknowledged).await;
    let drained = kept as f64 / began.elapsed().as_secs_f64();
    let cpu = process.cpu_seconds()? - cpu_before;

    // Live traffic at a rate the machine has room for: alone, then while as much drains beside it.
    let paced = load::Options {
        pace: Pace::Rate(live * LIVE_SHARE),
        spans_max: None,
        duration: Duration::from_secs_f64(LIVE_SECONDS),
        ..options.clone()
    };
    let alone = load::run(paced.clone(), None).await?;
    acknowledged += alone.acknowledged_spans;
    stage.arrived(acknowledged).await;
    switch("pause").await?;
    let report = load::run(options.clone(), None).await?;
    acknowledged += report.acknowledged_spans;
    reports.push(report);
    switch("resume").await?;
    let beside = load::run(paced, None).await?;
    acknowledged += beside.acknowledged_spans;
    stage.arrived(acknowledged).await;

    let remarks = vec![
        format!(
            "1 GB drains at {drained:.0} spans/s, {:.0} % of live speed ({live:.0} spans/s; target 80 %)",
            100.0 * drained / live
        ),
        format!(
            "ingest at {:.0} spans/s beside the drain goes at {:.0} % of its speed (target 90 %), ack p99 {:.1} ms instead of {:.1} ms",
            alone.spans_per_second,
            100.0 * beside.spans_per_second / alone.spans_per_second,
            beside.ack_p99_ms,
            alone.ack_p99_ms
        ),
    ];
    reports.extend([alone, beside]);

    let mut verdict = Verdict::default();
    let (expected, mut duplicates) = (Expected::of(&options, false)?, 0);
    for sink in &stage.sinks {
        let tally = sink.take_tally();
        for report in &reports {
            let found = expected.judge(report, &tally);
            verdict.missing += found.missing;
            verdict.altered += found.altered;
        }
        duplicates += sink.stats().duplicates;
    }
    Ok(Measured {
        scenario: scenario.name,
        subject: subject.name(),
        spans: kept,
        cpu_seconds_per_million: cpu * 1e6 / kept.max(1) as f64,
        spans_per_second: drained,
        ack_ms: Percentiles::default(),
        peak_rss_mb: process.peak_rss_mb()?,
        missing: verdict.missing,
        altered: verdict.altered,
        duplicates,
        remarks,
        ..Measured::default()
    })
}
