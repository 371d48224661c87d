//! What one destination or tenant does to the others: nothing that can be measured.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::JoinSet;
use tracecast_loadkit::faultsink::{BlackHole, Fault, FaultSink, Reply};
use tracecast_loadkit::load::{Options, Pace};
use tracecast_otlp::write::{OwnedValue, resource_spans};
use tracecast_tests::process::{PATIENCE, assert_balanced, is_timed};
use tracecast_tests::spans::{generation, request};

use crate::scene::Scene;
use crate::table::Row;
use crate::tls::{Authority, Front, Wrong};

/// The value at this quantile, in milliseconds.
fn quantile_ms(delays_us: &mut [u64], q: f64) -> f64 {
    delays_us.sort_unstable();
    let at = ((delays_us.len() as f64 * q) as usize).min(delays_us.len().saturating_sub(1));
    delays_us.get(at).map_or(0.0, |us| *us as f64 / 1000.0)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_of_seventeen_fail() {
    const HEALTHY: usize = 8;
    const ROUNDS: u64 = 6;
    /// Where the machine was taken away too often, so many.
    const ROUNDS_MAX: u64 = 12;
    const SPANS: u64 = 250;
    let authority = Authority::new("trusted by the gateway");
    // Not durable: what a sync takes on this disk is no destination's doing, and is most of the slowest delays.
    let settings = "limits: { destinations_per_kind: 100 }\nlog: { durability: buffered }\n";
    let mut scene = Scene::open_with(settings, |home| {
        let file = home.path().join("authority.pem");
        authority.write(&file);
        vec![("SSL_CERT_FILE", file.display().to_string())]
    })
    .await;
    for n in 0..HEALTHY {
        scene.place(&format!("healthy {n}"), Fault::None).await;
    }
    let failing = [
        ("429", Fault::Refuse(Reply::new(429, "slow down"))),
        ("500", Fault::Refuse(Reply::new(500, "down"))),
        ("hang", Fault::Hang),
        ("1 B/s", Fault::Drip),
        ("reset", Fault::ResetAfterBody),
        ("garbage", Fault::Garbage),
    ];
    for (name, _) in &failing {
        scene.place(name, Fault::None).await;
    }
    // Three whose address is the fault.
    let hole = BlackHole::start().await.expect("a black hole");
    let mut moved = Vec::new();
    for name in ["TLS expired", "NXDOMAIN", "black hole"] {
        moved.push(scene.place(name, Fault::None).await);
    }
    let front = Front::start(&authority, Wrong::Expired, scene.places[moved[0]].sink.address()).await;
    let hole = format!("http://{}", hole.address().expect("its address"));
    let wrong = [front.url(), "http://nowhere.invalid".to_owned(), hole];

    // Rounds with and without the faults take turns, so that what else the machine does is in both; and the figures
    // are medians of rounds, so that one in which the machine was taken away does not decide.
    let (mut p50s, mut p99s, mut shares) = <([Vec<f64>; 2], [Vec<f64>; 2], [Vec<f64>; 2])>::default();
    // Until a request is answered: what of a delay is no destination's.
    let mut acks = [Vec::new(), Vec::new()];
    let in_time = |shares: &[Vec<f64>; 2]| (median(shares[0].clone()), median(shares[1].clone()));
    for round in 0..2 * ROUNDS_MAX {
        let faulty = round % 2 == 1;
        let (calm, other) = in_time(&shares);
        if round >= 2 * ROUNDS && !faulty && other >= 0.99 * calm {
            break;
        }
        if faulty {
            for ((_, fault), place) in failing.iter().zip(&scene.places[HEALTHY..]) {
                place.sink.behave(fault.clone());
            }
        }
        if faulty {
            for (place, url) in moved.iter().zip(&wrong) {
                scene.readdress(*place, url).await;
            }
        }
        // The faults show before the measurement begins.
        scene.load(scene.options(50, 10, 1000, 50 + round)).await;
        for place in 0..HEALTHY {
            scene.until(place, "drained", |stats| stats["pending"] == 0).await;
            scene.places[place].sink.take_delays_us();
        }
        let rate = Pace::Rate(100.0);
        let options = Options { pace: rate, ..scene.options(SPANS, 5, 1000, 70 + round) };
        let report = scene.load(options).await;
        acks[usize::from(faulty)].push(report.ack_p99_ms);
        // What has arrived a moment after the last one was sent is in time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut seen = Vec::new();
        for place in &scene.places[..HEALTHY] {
            seen.append(&mut place.sink.take_delays_us());
        }
        shares[usize::from(faulty)].push(seen.len() as f64 / (SPANS as usize * HEALTHY) as f64);
        p50s[usize::from(faulty)].push(quantile_ms(&mut seen, 0.5));
        p99s[usize::from(faulty)].push(quantile_ms(&mut seen, 0.99));
        if faulty {
            for place in &moved {
                let right = scene.places[*place].sink.url();
                scene.readdress(*place, &right).await;
            }
            scene.recover().await;
            for place in HEALTHY..scene.places.len() {
                scene.until(place, "drained", |stats| stats["pending"] == 0).await;
            }
        }
    }
    let (rounds, (calm, other)) = (shares[1].len(), in_time(&shares));
    let [p50, p99, ack] = [p50s, p99s, acks].map(|[calm, faulty]| (median(calm), median(faulty)));
    // Where most does not arrive in time without any fault either, the machine is too busy to tell.
    assert!(other >= 0.99 * calm || calm < 0.99, "{shares:?}");
    assert!(!is_timed() || p99.1 <= 1.2 * p99.0, "p99 {} / {} ms", p99.0, p99.1);
    let conclusion = scene.conclude().await;
    assert_eq!((conclusion.dead_lettered, conclusion.dropped), (0, 0));
    Row {
        test: "nine_of_seventeen_fail",
        fault: "9 of 17 destinations: 429, 500, hang, 1 B/s, reset, garbage, TLS expired, NXDOMAIN, black hole",
        load: format!("100 spans/s to 17 destinations, {rounds} rounds with and {rounds} without the faults in turn"),
        expected: "the 8 healthy: ≥ 99 % throughput (asserted), p99 ≤ 1.2x of the rounds without faults (a figure: a \
                   busy machine decides it)",
        measured: format!(
            "throughput {:.2} %, accept to arrival, medians of rounds: p50 {:.0} / {:.0} ms, p99 {:.0} / {:.0} ms = \
             {:.2}x, p99 of the answers {:.0} / {:.0} ms; {conclusion}",
            other / calm * 100.0,
            p50.0,
            p50.1,
            p99.0,
            p99.1,
            p99.1 / p99.0,
            ack.0,
            ack.1
        ),
    }
    .record();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tenants() {
    const TENANTS: usize = 1000;
    const SPANS: usize = 3000;
    /// The loud tenant sends so many spans where another sends one.
    const LOUD: usize = 20;
    let scene = Scene::open("limits: { destinations_per_kind: 2000 }\n").await;
    // One sink stands behind all: each span has exactly one destination, its tenant's.
    let sink = FaultSink::start(Fault::None).await.expect("a sink");
    let body = json!({ "name": "any", "can_assert_identity": "any_workspace" });
    let (status, answer) = scene.gateway().api("POST", "/keys", Some(&body)).await;
    assert_eq!(status, 201, "{answer}");
    let key = answer["key"].as_str().expect("a key").to_owned();
    let mut ids = Vec::new();
    for n in 0..TENANTS {
        let body = json!({ "name": format!("tenant {n}"), "slug": format!("tenant-{n}") });
        let (status, answer) = scene.gateway().api("POST", "/workspaces", Some(&body)).await;
        assert!(status < 300, "{answer}");
        let workspace = answer["data"]["id"].as_str().expect("an id").to_owned();
        let body = json!({ "type": "otel-collector", "name": "one", "workspace_id": workspace,
                           "config": { "endpoint": sink.url() } });
        ids.push((workspace, scene.gateway().destination(body).await));
    }
    let mut sent: HashMap<usize, u64> = HashMap::new();
    let started = Instant::now();
    let mut requests = JoinSet::new();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    for n in 0..SPANS {
        // Tenant 0 is the loud one.
        let turn = n % (TENANTS - 1 + LOUD);
        let tenant = turn.saturating_sub(LOUD - 1);
        *sent.entry(tenant).or_default() += 1;
        let resource = [("tracecast.workspace_id".to_owned(), OwnedValue::from(ids[tenant].0.as_str()))];
        let mut body = Vec::new();
        resource_spans(&resource, "tests", "1", &[generation(n as u64, "x")], &mut body);
        let post = client.post(format!("{}/v1/traces", scene.gateway().http)).bearer_auth(&key);
        let post = post.header("content-type", "application/x-protobuf").body(body);
        requests.spawn(async move { post.send().await.expect("an answer").status().as_u16() });
        while requests.len() >= 16 {
            assert_eq!(requests.join_next().await.expect("one").expect("it ends"), 200);
        }
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    while sink.with_receipts(|r| r.len()) < SPANS {
        assert!(started.elapsed() < 2 * PATIENCE, "{} of {SPANS} arrived", sink.with_receipts(|r| r.len()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = started.elapsed();
    for (tenant, (_, id)) in ids.iter().enumerate() {
        let stats = scene.gateway().settled(id, sent.get(&tenant).copied().unwrap_or(0)).await;
        assert_balanced(&stats);
        assert_eq!(stats["delivered"], stats["accepted"], "tenant {tenant} got another's span: {stats:#}");
    }
    Row {
        test: "a_thousand_tenants",
        fault: "1,000 workspaces with a destination each, one sends 20 times what another does",
        load: format!("{SPANS} spans, one request each, 16 at a time"),
        expected: "each span at its own workspace's destination, once; books of all 1,000 balance",
        measured: format!(
            "{SPANS} acknowledged, 0 lost, 0 misrouted, all delivered {:.1} s after the first was sent",
            took.as_secs_f64()
        ),
    }
    .record();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_destinations() {
    const DESTINATIONS: usize = 10_000;
    /// Who create and delete, each in a closed loop.
    const CALLERS: u64 = 4;
    const PAIRS: u64 = 50;
    const SPANS: u64 = 15;
    let endpoint = "http://127.0.0.1:9/v1/traces";
    let mut file = "limits: { destinations_per_kind: 20000 }\ndestinations:\n".to_owned();
    // Each selects its own model; one sink stands behind those whose model is sent.
    let sink = FaultSink::start(Fault::None).await.expect("a sink");
    for n in 0..DESTINATIONS {
        let url = if n < 100 { sink.url() } else { endpoint.to_owned() };
        file += &format!(
            "  - {{ type: otel-collector, name: \"file {n}\", config: {{ endpoint: \"{url}\" }}, filter_rules: \
             {{ groups: [ {{ rules: [ {{ field: model, operator: equals, value: \"m-{n}\" }} ] }} ] }} }}\n"
        );
    }
    let started = Instant::now();
    let mut scene = Scene::open(&file).await;
    let start = started.elapsed();
    scene.place("everything", Fault::None).await;
    let changed = AtomicU64::new(0);
    let started = Instant::now();
    let churn = async |caller: u64| {
        for n in 0..PAIRS {
            let body = json!({ "type": "otel-collector", "name": format!("churn {caller} {n}"),
                               "config": { "endpoint": endpoint }, "enabled": false });
            let id = scene.gateway().destination(body).await;
            let path = format!("/observability/destinations/{id}");
            assert_eq!(scene.gateway().api("DELETE", &path, None).await.0, 200);
            changed.fetch_add(2, Ordering::Relaxed);
        }
        started.elapsed()
    };
    // The events come while the configuration changes.
    let mut bodies = Vec::new();
    for n in 0..SPANS {
        let mut span = generation(n, "x");
        for (key, value) in &mut span.attributes {
            if key == "gen_ai.request.model" {
                *value = OwnedValue::from(format!("m-{}", n * 7 % 100));
            }
        }
        bodies.push(request(&[span]));
    }
    let events = async {
        for (n, body) in (0..).zip(&bodies) {
            while changed.load(Ordering::Relaxed) < n * 2 * CALLERS * PAIRS / SPANS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(scene.gateway().send(body.clone()).await.0, 200, "{}", scene.home.stderr());
        }
    };
    let (took, ()) = tokio::join!(join_all((0..CALLERS).map(churn)), events);
    let took = took.into_iter().max().unwrap_or_default();
    for body in &bodies {
        scene.oracle.offer(body);
        scene.oracle.acknowledge(body);
    }
    let started = Instant::now();
    while (sink.with_receipts(|r| r.len()) as u64) < SPANS {
        assert!(started.elapsed() < PATIENCE, "{} of {SPANS} arrived", sink.with_receipts(|r| r.len()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let verdict = sink.with_receipts(|receipts| scene.oracle.judge(receipts));
    assert_eq!((verdict.missing, verdict.foreign, verdict.altered), (0, 0, 0), "{verdict:?}");
    let conclusion = scene.conclude().await;
    Row {
        test: "ten_thousand_destinations",
        fault: "10,000 destinations, created and deleted by the API all the time",
        load: format!("{SPANS} spans, each to one of 100 by filter and to one that takes everything"),
        expected: "1 % of them changed per second; every span at its destination, books balance",
        measured: format!(
            "first start {:.1} s, {:.0} changes per second by {CALLERS} callers; {conclusion}",
            start.as_secs_f64(),
            (2 * CALLERS * PAIRS) as f64 / took.as_secs_f64(),
        ),
    }
    .record();
}
