//! Ten thousand destinations of which some come, change and go all the time.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tracecast_loadkit::faultsink::{Fault, FaultSink};
use tracecast_otlp::write::OwnedValue;
use tracecast_tests::process::{PATIENCE, assert_balanced, is_timed};
use tracecast_tests::spans::{generation, request};

use crate::scene::Scene;
use crate::table::Row;

const DESTINATIONS: usize = 10_000;
/// 1 % of them.
const CHANGES_PER_SECOND: f64 = 100.0;
/// Who create, change and delete, each in a closed loop.
const CALLERS: u64 = 16;
const ROUNDS: u64 = 25;
/// Of a round: one is created, one is changed, one is deleted.
const CHANGES: u64 = CALLERS * ROUNDS * 3;
/// Sent beside the callers', who send one in each round.
const EVENTS: u64 = 400;
/// Events name one of so many models. Each is selected by one destination of the file, and by one caller's.
const MODELS: u64 = 20;
/// So far may the changes be ahead of the events.
const AHEAD: u64 = CHANGES / 10;

fn model(event: u64) -> u64 {
    event % MODELS
}

fn selecting(model: u64) -> Json {
    json!({ "groups": [{ "rules": [{ "field": "model", "operator": "equals", "value": format!("m-{model}") }] }] })
}

fn event(number: u64) -> Vec<u8> {
    let mut span = generation(number, "x");
    for (key, value) in &mut span.attributes {
        if key == "gen_ai.request.model" {
            *value = OwnedValue::from(format!("m-{}", model(number)));
        }
    }
    request(&[span])
}

/// Who changes the configuration all the time.
struct Caller {
    /// What it selects, in both its destinations.
    model: u64,
    /// Is there all the time and changed all the time: gets every span of the model.
    kept: String,
    keeps: FaultSink,
    /// Behind those that come and go: gets spans of the model and no others.
    passing: FaultSink,
}

impl Caller {
    async fn new(scene: &Scene, number: u64) -> Caller {
        let [keeps, passing] = [FaultSink::start(Fault::None).await, FaultSink::start(Fault::None).await]
            .map(|sink| sink.expect("a sink"));
        let kept = json!({ "type": "otel-collector", "name": format!("kept {number}"),
                           "config": { "endpoint": keeps.url() }, "filter_rules": selecting(number) });
        Caller { model: number, kept: scene.gateway().destination(kept).await, keeps, passing }
    }

    /// The number of the event it sends in a round, of its model.
    fn event(&self, round: u64) -> u64 {
        MODELS * (EVENTS + self.model * ROUNDS + round) + self.model
    }

    /// Its part of the changes, each counted when it is answered.
    async fn churn(&self, scene: &Scene, changes: &watch::Sender<u64>, mut events: watch::Receiver<u64>) {
        let changed = || changes.send_modify(|n| *n += 1);
        let gateway = scene.gateway();
        for round in 0..ROUNDS {
            let in_step = |events: &u64| *changes.borrow() <= events * CHANGES / EVENTS + AHEAD;
            events.wait_for(in_step).await.expect("the events are sent");
            let body = json!({ "type": "otel-collector", "name": format!("passing {} {round}", self.model),
                               "config": { "endpoint": self.passing.url() }, "filter_rules": selecting(self.model) });
            let passing = format!("/observability/destinations/{}", gateway.destination(body).await);
            changed();
            // This one is selected by what is there only now.
            acknowledged(scene, self.event(round)).await;
            if round == 0 {
                self.has_passed().await;
            }
            let patch = json!({ "name": format!("kept {} {round}", self.model) });
            let kept = format!("/observability/destinations/{}", self.kept);
            let (status, answer) = gateway.api("PATCH", &kept, Some(&patch)).await;
            assert_eq!(status, 200, "{answer}");
            changed();
            let (status, answer) = gateway.api("DELETE", &passing, None).await;
            assert_eq!(status, 200, "{answer}");
            changed();
        }
    }

    /// The first that comes stays until its span has come: the others may be gone before.
    async fn has_passed(&self) {
        let started = Instant::now();
        while self.passing.exchanges().is_empty() {
            assert!(started.elapsed() < PATIENCE, "nothing reached one that came and goes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn acknowledged(scene: &Scene, number: u64) {
    let (status, _) = scene.gateway().send(event(number)).await;
    assert_eq!(status, 200, "{}", scene.home.stderr());
}

/// Sends the events, each when its part of the changes is made.
async fn send(scene: &Scene, events: &watch::Sender<u64>, mut changes: watch::Receiver<u64>) {
    for number in 0..EVENTS {
        let due = number * CHANGES / EVENTS;
        changes.wait_for(|n| *n >= due).await.expect("the callers go on");
        acknowledged(scene, number).await;
        events.send_modify(|n| *n += 1);
    }
}

/// The sum of a metric over all destinations.
async fn over_all(scene: &Scene, name: &str) -> u64 {
    let (status, text) = scene.gateway().get_admin("/metrics").await;
    assert_eq!(status, 200, "{text}");
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_destinations() {
    let mut file = "limits: { destinations_per_kind: 20000 }\ndestinations:\n".to_owned();
    // One sink stands behind those whose model is sent; the others are never to get anything.
    let sink = FaultSink::start(Fault::None).await.expect("a sink");
    for n in 0..DESTINATIONS {
        let url = if n < MODELS as usize { sink.url() } else { "http://127.0.0.1:9/v1/traces".to_owned() };
        file += &format!(
            "  - {{ type: otel-collector, name: \"file {n}\", config: {{ endpoint: \"{url}\" }}, filter_rules: \
             {{ groups: [ {{ rules: [ {{ field: model, operator: equals, value: \"m-{n}\" }} ] }} ] }} }}\n"
        );
    }
    let started = Instant::now();
    let mut scene = Scene::open(&file).await;
    let start = started.elapsed();
    scene.place("everything", Fault::None).await;
    let callers = join_all((0..CALLERS).map(|number| Caller::new(&scene, number))).await;

    let (changes, events) = (watch::Sender::new(0u64), watch::Sender::new(0u64));
    let started = Instant::now();
    let churn = callers.iter().map(|caller| caller.churn(&scene, &changes, events.subscribe()));
    tokio::join!(join_all(churn), send(&scene, &events, changes.subscribe()));
    let rate = CHANGES as f64 / started.elapsed().as_secs_f64();
    assert!(!is_timed() || rate >= CHANGES_PER_SECOND, "{rate:.0} changes per second");
    let sent = callers.iter().flat_map(|caller| (0..ROUNDS).map(|round| caller.event(round)));
    for number in (0..EVENTS).chain(sent) {
        scene.oracle.offer(&event(number));
        scene.oracle.acknowledge(&event(number));
    }

    let started = Instant::now();
    while over_all(&scene, "tracecast_destination_pending_events").await > 0 {
        assert!(started.elapsed() < PATIENCE, "something is still pending");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What went to a destination that had not selected it, of whichever of the 10,000, would be delivered beyond this.
    let verdict = sink.with_receipts(|receipts| scene.oracle.judge(receipts));
    assert_eq!((verdict.missing, verdict.foreign, verdict.altered), (0, 0, 0), "{verdict:?}");
    let mut passed = 0;
    for caller in &callers {
        let its_model = |id: &[u8; 8]| model(u64::from_be_bytes(*id) & !(1 << 60)) == caller.model;
        let judge = |sink: &FaultSink| sink.with_receipts(|r| scene.oracle.judge_selected(r, its_model));
        let verdict = judge(&caller.keeps);
        assert_eq!((verdict.missing, verdict.foreign, verdict.altered), (0, 0, 0), "{verdict:?}");
        let spans = EVENTS / MODELS + ROUNDS;
        let stats = scene.gateway().settled(&caller.kept, spans).await;
        assert_balanced(&stats);
        assert_eq!(stats["delivered"], spans, "{stats:#}");
        // They were deleted with what was on its way; what arrived is what they had selected.
        let verdict = judge(&caller.passing);
        assert_eq!((verdict.foreign, verdict.altered), (0, 0), "{verdict:?}");
        passed += verdict.taken;
    }
    assert!(passed >= CALLERS, "{passed} spans reached those that came and went");
    let conclusion = scene.conclude().await;
    Row {
        test: "ten_thousand_destinations",
        fault: "10,000 destinations, 1 % of them created, changed and deleted per second",
        load: format!(
            "{} spans during {CHANGES} changes, each to one of {MODELS} by filter and to one that takes everything, most \
             to one that is changed all the time, half of them to one that comes and goes",
            EVENTS + CALLERS * ROUNDS
        ),
        expected: "100 changes per second (with `TRACECAST_TIMED=1`: a figure elsewhere); every span at each destination \
                   that selects it and at no other, books balance",
        measured: format!(
            "first start {:.1} s, {rate:.0} changes per second by {CALLERS} callers, {passed} spans reached \
             one that came and went; {conclusion}",
            start.as_secs_f64(),
        ),
    }
    .record();
}
