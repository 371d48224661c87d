//! A thousand tenants of which one is loud.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::task::JoinSet;
use tracecast_loadkit::faultsink::{Fault, FaultSink};
use tracecast_otlp::write::{OwnedValue, resource_spans};
use tracecast_tests::process::{PATIENCE, assert_balanced, is_timed};
use tracecast_tests::spans::generation;

use crate::neighbours::{median, quantile_ms};
use crate::scene::Scene;
use crate::table::Row;

const TENANTS: usize = 1_000;
/// The loud tenant, and how many spans it sends where another sends one.
const LOUD: usize = 0;
const TIMES: usize = 20;
/// Rounds of each kind.
const ROUNDS: usize = 3;
/// Spans per second of all quiet tenants together.
const RATE: f64 = 100.0;
/// Requests that wait for their answers at the same time: where the machine does not keep up with the rate, it falls,
/// instead of a connection being opened for each until there are no descriptors left.
const OPEN_MAX: usize = 100;

/// A workspace and its destination.
struct Tenant {
    workspace: String,
    destination: String,
    sent: u64,
}

/// The tenants, and what stands behind their destinations.
struct House {
    scene: Scene,
    key: String,
    client: reqwest::Client,
    tenants: Vec<Tenant>,
    /// Behind all quiet ones: each span has exactly one destination, its tenant's.
    quiet: FaultSink,
    /// Behind the loud one.
    loud: FaultSink,
    next: u64,
}

impl House {
    async fn open() -> House {
        let scene = Scene::open("limits: { destinations_per_kind: 2000 }\n").await;
        let [quiet, loud] = [FaultSink::start(Fault::None).await, FaultSink::start(Fault::None).await]
            .map(|sink| sink.expect("a sink"));
        let body = json!({ "name": "any", "can_assert_identity": "any_workspace" });
        let (status, answer) = scene.gateway().api("POST", "/keys", Some(&body)).await;
        assert_eq!(status, 201, "{answer}");
        let key = answer["key"].as_str().expect("a key").to_owned();
        let mut tenants = Vec::new();
        for n in 0..TENANTS {
            let body = json!({ "name": format!("tenant {n}"), "slug": format!("tenant-{n}") });
            let (status, answer) = scene.gateway().api("POST", "/workspaces", Some(&body)).await;
            assert!(status < 300, "{answer}");
            let workspace = answer["data"]["id"].as_str().expect("an id").to_owned();
            let url = if n == LOUD { loud.url() } else { quiet.url() };
            let body = json!({ "type": "otel-collector", "name": "one", "workspace_id": workspace,
                               "config": { "endpoint": url } });
            let destination = scene.gateway().destination(body).await;
            tenants.push(Tenant { workspace, destination, sent: 0 });
        }
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        House { scene, key, client, tenants, quiet, loud, next: 0 }
    }

    /// Sends one span of a tenant, which ends now; the answer is awaited among the others.
    fn send(&mut self, tenant: usize, answers: &mut JoinSet<u16>) {
        let tenant = &mut self.tenants[tenant];
        tenant.sent += 1;
        let mut span = generation(self.next, "x");
        self.next += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_nanos() as u64;
        (span.start_unix_nano, span.end_unix_nano) = (now - 1_000_000, now);
        let resource = [("tracecast.workspace_id".to_owned(), OwnedValue::from(tenant.workspace.as_str()))];
        let mut body = Vec::new();
        resource_spans(&resource, "tests", "1", &[span], &mut body);
        let post =
            self.client.post(format!("{}/v1/traces", self.scene.gateway().http)).bearer_auth(&self.key);
        let post = post.header("content-type", "application/x-protobuf").body(body);
        answers.spawn(async move { post.send().await.expect("an answer").status().as_u16() });
    }

    fn sent(&self, which: impl Fn(usize) -> bool) -> u64 {
        self.tenants.iter().enumerate().filter(|(n, _)| which(*n)).map(|(_, tenant)| tenant.sent).sum()
    }

    /// One span of each quiet tenant, at a steady rate; with noise, all of the loud one's in one burst in the middle.
    /// The delays of the quiet tenants' spans, when they have all arrived.
    async fn round(&mut self, noise: bool) -> Vec<u64> {
        let mut answers = JoinSet::new();
        let started = Instant::now();
        for tenant in (0..TENANTS).filter(|tenant| *tenant != LOUD) {
            let due = started + Duration::from_secs_f64(tenant as f64 / RATE);
            tokio::time::sleep_until(due.into()).await;
            while answers.len() >= OPEN_MAX {
                assert_eq!(answers.join_next().await.expect("one").expect("no panic"), 200);
            }
            self.send(tenant, &mut answers);
            if noise && tenant == TENANTS / 2 {
                (0..TIMES).for_each(|_| self.send(LOUD, &mut answers));
            }
        }
        assert!(answers.join_all().await.iter().all(|status| *status == 200));
        arrived(&self.quiet, self.sent(|tenant| tenant != LOUD)).await;
        self.quiet.take_delays_us()
    }
}

/// Waits until so many spans have come to a sink.
async fn arrived(sink: &FaultSink, spans: u64) {
    let started = Instant::now();
    let here = || sink.with_receipts(|receipts| receipts.len() as u64);
    while here() < spans {
        assert!(started.elapsed() < 2 * PATIENCE, "{} of {spans} arrived", here());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tenants() {
    let mut house = House::open().await;
    // The loud tenant's destination is slow as well, so that what it has sent stands in the log before what others send.
    house.loud.behave(Fault::Slow(Duration::from_secs(1)));
    let (mut p50s, mut p99s) = <([Vec<f64>; 2], [Vec<f64>; 2])>::default();
    for round in 0..2 * ROUNDS {
        let noise = round % 2 == 1;
        let mut delays = house.round(noise).await;
        p50s[usize::from(noise)].push(quantile_ms(&mut delays, 0.5));
        p99s[usize::from(noise)].push(quantile_ms(&mut delays, 0.99));
    }
    let [p50, p99] = [p50s, p99s].map(|[calm, loud]| (median(calm), median(loud)));
    assert!(!is_timed() || p99.1 <= 1.2 * p99.0, "p99 {} / {} ms", p99.0, p99.1);
    house.loud.behave(Fault::None);
    let (spans, noise) = (house.sent(|_| true), house.sent(|tenant| tenant == LOUD));
    assert_eq!(noise, (ROUNDS * TIMES) as u64);
    arrived(&house.loud, noise).await;
    for (n, tenant) in house.tenants.iter().enumerate() {
        let stats = house.scene.gateway().settled(&tenant.destination, tenant.sent).await;
        assert_balanced(&stats);
        assert_eq!(stats["delivered"], stats["accepted"], "tenant {n} got another's span: {stats:#}");
    }
    Row {
        test: "a_thousand_tenants",
        fault: "1,000 workspaces with a destination each, one sends 20 times what another does, all at once and to a slow destination",
        load: format!("{spans} spans, one request each, {RATE:.0} a second, {ROUNDS} rounds with and {ROUNDS} without the loud one"),
        expected: "each span at its own workspace's destination, once; books of all 1,000 balance; p99 of the other 999 \
                   ≤ 1.2x of the rounds without (with `TRACECAST_TIMED=1`: a figure elsewhere)",
        measured: format!(
            "{spans} acknowledged, 0 lost, 0 misrouted; end of a span to its arrival, the 999, medians of rounds: p50 {:.0} / \
             {:.0} ms = {:.2}x, p99 {:.0} / {:.0} ms = {:.2}x",
            p50.0,
            p50.1,
            p50.1 / p50.0,
            p99.0,
            p99.1,
            p99.1 / p99.0
        ),
    }
    .record();
}
