//! The process ends in every way it can, at any moment, and starts again.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tracecast_loadkit::faultsink::Fault;
use tracecast_loadkit::load::{Options, Pace};

use crate::scene::{Running, Scene};
use crate::table::Row;

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_at_fifty_moments() {
    const KILLS: u64 = 50;
    let mut rng = StdRng::seed_from_u64(4);
    let mut scene = Scene::open("log: { max_bytes: 256MiB }\n").await;
    let quick = scene.place("quick", Fault::None).await;
    scene.place("slow", Fault::Slow(Duration::from_millis(150))).await;
    let (mut shown, mut starts) = (0, Vec::new());
    for kill in 0..KILLS {
        // Killed at a moment of the load that the seed tells: a number of acknowledged spans, and some time.
        let options = Options { until_refused: true, ..scene.options(1_000_000, 5, 500, 100 + kill) };
        let mut running = Running::start(options);
        running.acknowledged(rng.random_range(1..300)).await;
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..20_000))).await;
        let delivered = scene.stats(quick).await["delivered"].as_u64().expect("delivered");
        scene.kill();
        shown = delivered.max(shown);
        running.end(&mut scene.oracle).await;
        starts.push(scene.start());
        let delivered = scene.stats(quick).await["delivered"].as_u64().expect("delivered");
        assert!(delivered >= shown, "a figure fell over kill {kill}: {shown} then {delivered}");
    }
    starts.sort();
    let conclusion = scene.conclude().await;
    Row {
        test: "sigkill_at_fifty_moments",
        fault: "kill -9 at 50 seeded moments, restart each time",
        load: "closed loop of 2, 5 spans a request, a quick and a slow destination".into(),
        expected: "0 acknowledged lost, no figure ever falls",
        measured: format!("{conclusion}; start {} ms at the median", starts[starts.len() / 2].as_millis()),
    }
    .record();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_with_all_destinations_hung() {
    const SPANS: u64 = 2000;
    let mut scene = Scene::open("limits: { destinations_per_kind: 20 }\n").await;
    for n in 0..8 {
        scene.place(&format!("hung {n}"), Fault::Hang).await;
    }
    scene.load(scene.options(SPANS, 20, 1000, 2)).await;
    for place in 0..scene.places.len() {
        scene.until(place, "sending", |stats| stats["in_flight"].as_u64() > Some(0)).await;
    }
    let stop = scene.stop().await;
    assert!(stop <= Duration::from_secs(30), "the stop took {stop:?}");
    let start = scene.start();
    for place in 0..scene.places.len() {
        assert_eq!(scene.stats(place).await["pending"], SPANS);
    }
    scene.recover().await;
    let conclusion = scene.conclude().await;
    Row {
        test: "sigterm_with_all_destinations_hung",
        fault: "SIGTERM while every destination hangs; restart",
        load: format!("{SPANS} spans to each of {} destinations", scene.places.len()),
        expected: "exit 0 within 30 s, all delivered after the restart",
        measured: format!("stop {:.1} s, start {} ms, {conclusion}", stop.as_secs_f64(), start.as_millis()),
    }
    .record();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rolling_restarts() {
    const RESTARTS: u64 = 20;
    const SPANS: u64 = 300;
    let mut scene = Scene::open("").await;
    scene.place("quick", Fault::None).await;
    scene.place("slow", Fault::Slow(Duration::from_millis(150))).await;
    let mut requests = 0;
    for round in 0..RESTARTS {
        let options = scene.options(SPANS, 5, 500, 200 + round);
        let mut running = Running::start(Options { pace: Pace::Closed(4), ..options });
        running.acknowledged(SPANS / 6).await;
        scene.hand_over();
        let report = running.end(&mut scene.oracle).await;
        assert!(report.refused.is_empty(), "round {round}: {:?}\n{}", report.refused, scene.home.stderr());
        requests += report.requests;
    }
    let conclusion = scene.conclude().await;
    Row {
        test: "twenty_rolling_restarts",
        fault: "20 rolling restarts, each successor takes the listeners over",
        load: "4 keep-alive clients in a closed loop, a quick and a slow destination".into(),
        expected: "0 failed requests, 0 acknowledged lost",
        measured: format!("0 of {requests} requests failed, {conclusion}"),
    }
    .record();
}
