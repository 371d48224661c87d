//! What is counted under a key, and the mark on what is over its limit.

use std::sync::Mutex;

use tracecast_log::{Entry, Subscriber};
use tracecast_otlp::Payload;

use super::*;
use crate::KeyUsage;

const DAY: u64 = 86_400 * 1_000_000_000;

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn with_cost(n: u8, usd: f64, more: &[(&str, &str)]) -> SpanBuilder {
    let mut span = span(n, more);
    span.attributes.push(("gen_ai.usage.cost".into(), OwnedValue::Double(usd)));
    span
}

#[tokio::test]
async fn each_acknowledged_generation_is_charged_once() {
    let bench = bench(Options::default());
    let mut byok = with_cost(3, 0.5, &[]);
    byok.attributes.push(("trace.metadata.openrouter.is_byok".into(), OwnedValue::Bool(true)));
    let bad = SpanBuilder { trace_id: [0; 16], ..with_cost(6, 100.0, &[]) };
    let spans = [
        with_cost(1, 0.25, &[]),
        with_cost(2, 0.000_000_001, &[]),
        byok,
        // A wrapper repeats the cost of the call below it.
        with_cost(4, 0.25, &[("openinference.span.kind", "AGENT")]),
        span(5, &[]),
        bad,
        with_cost(7, -3.0, &[]),
        with_cost(8, f64::NAN, &[]),
        with_cost(9, 1e300, &[]),
    ];
    let answer = bench.otlp(&[], request(&spans)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let taken = bench.ingest.take_usage();
    let [usage] = taken.as_slice() else { panic!("{taken:?}") };
    assert_eq!(usage.hash, hash(KEY));
    assert_eq!((usage.cost_nano_usd, usage.byok_nano_usd, usage.events), (250_000_001, 500_000_000, 8));
    assert!(usage.last_used_unix_nano > 1_700_000_000_000_000_000);
    assert_eq!(bench.ingest.take_usage(), [], "taken is taken");
}

#[tokio::test]
async fn what_is_not_acknowledged_or_not_registered_is_not_counted() {
    let bench = bench(Options { auth: Auth::None, ..Options::default() });
    let body = |n| request(&[with_cost(n, 0.25, &[])]);
    let unknown = ("authorization", "Bearer sk-provider");
    assert_eq!(bench.otlp(&[unknown], body(1)).await.status, StatusCode::OK);
    assert_eq!(bench.ingest.take_usage(), [], "an unregistered key");
    // Presented for itself, also where everything goes to the default workspace.
    bench.change_key(KEY, |key| key.workspace_id = OTHER_WORKSPACE);
    assert_eq!(bench.otlp(&[], body(2)).await.status, StatusCode::OK);
    assert_eq!(bench.ingest.take_usage().len(), 1);
    assert_eq!(bench.otlp(&[], body(2)).await.status, StatusCode::OK);
    assert_eq!(bench.ingest.take_usage(), [], "it came before");
    let bad = SpanBuilder { trace_id: [0; 16], ..with_cost(1, 0.25, &[]) };
    assert_eq!(bench.otlp(&[], request(&[bad])).await.status, StatusCode::BAD_REQUEST);
    bench.log.close();
    assert_eq!(bench.otlp(&[], body(3)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.ingest.take_usage(), []);
}

#[tokio::test]
async fn a_stated_key_is_the_one_that_is_charged() {
    let bench = bench(Options::default());
    let stated = tracecast_otlp::hex(&hash(KEY));
    let body = request(&[
        with_cost(1, 0.25, &[("tracecast.api_key_hash", &stated)]),
        with_cost(2, 0.5, &[]),
        with_cost(3, 1.0, &[("tracecast.api_key_hash", &"ab".repeat(32))]),
    ]);
    let gateway = ("authorization", "Bearer sk-tc-v1-gateway");
    assert_eq!(bench.otlp(&[gateway], body).await.status, StatusCode::OK);
    let mut charged: Vec<_> =
        bench.ingest.take_usage().into_iter().map(|u| (u.hash, u.cost_nano_usd)).collect();
    charged.sort_by_key(|(_, cost)| *cost);
    assert_eq!(charged, [(hash(KEY), 250_000_000), (hash(GATEWAY_KEY), 500_000_000)]);
}

#[test]
fn sums_are_kept_apart_by_day_and_come_in_order() {
    let meter = crate::meter::Meter::default();
    let usage = |hash: u8, at: u64, cost: u64| KeyUsage {
        hash: [hash; 32],
        cost_nano_usd: cost,
        byok_nano_usd: 1,
        events: 2,
        last_used_unix_nano: at,
    };
    meter.count(&usage(1, 10 * DAY, 5));
    meter.count(&usage(1, 10 * DAY - 1, 7));
    meter.count(&usage(1, 11 * DAY - 1, u64::MAX));
    meter.count(&usage(2, 10 * DAY + 3, 1));
    let taken = meter.take();
    let mut sum = usage(1, 11 * DAY - 1, u64::MAX);
    (sum.byok_nano_usd, sum.events) = (2, 4);
    assert_eq!(taken, [usage(1, 10 * DAY - 1, 7), usage(2, 10 * DAY + 3, 1), sum]);
}

#[test]
fn nothing_is_lost_between_two_takes() {
    let meter = crate::meter::Meter::default();
    let one =
        KeyUsage { hash: [3; 32], cost_nano_usd: 1, byok_nano_usd: 0, events: 1, last_used_unix_nano: 9 };
    let mut taken = 0;
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..10_000).for_each(|_| meter.count(&one)))).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            taken += meter.take().iter().map(|usage| usage.events).sum::<u64>();
        }
    });
    taken += meter.take().iter().map(|usage| usage.events).sum::<u64>();
    assert_eq!(taken, 40_000);
}

/// Remembers what was committed.
#[derive(Default)]
struct Committed(Mutex<Vec<Arc<Entry>>>);

impl Subscriber for Committed {
    fn committed(&self, entry: Arc<Entry>) {
        self.0.lock().unwrap().push(entry);
    }

    fn give_up(&self, _: u32, _: u64) {}
}

#[tokio::test]
async fn what_is_over_its_limit_is_kept_and_marked() {
    let bench = bench(Options::default());
    let committed = Arc::new(Committed::default());
    bench.log.subscribe(committed.clone());
    let body = |n| request(&[span(n, &[("tracecast.budget.exceeded", "made up")]), span(n + 1, &[])]);
    let marks = async |nth: usize| -> Vec<Vec<String>> {
        let entry = loop {
            let found = committed.0.lock().unwrap().get(nth).cloned();
            match found {
                Some(entry) => break entry,
                None => tokio::task::yield_now().await,
            }
        };
        let payload: Arc<Payload> = bench.log.payload(&entry).await.unwrap();
        let traces = payload.traces().unwrap();
        let of_span = |span: tracecast_otlp::SpanView<'_>| {
            let found = span.attributes().filter(|(key, _)| *key == "tracecast.budget.exceeded");
            found.map(|(_, value)| value.as_str().unwrap().to_owned()).collect()
        };
        traces.spans().map(of_span).collect()
    };
    bench.otlp(&[], body(1)).await;
    assert_eq!(marks(0).await, [vec!["made up".to_owned()], vec![]]);
    bench.change_key(KEY, |key| key.over_limit = true);
    assert_eq!(bench.otlp(&[], body(5)).await.status, StatusCode::OK);
    assert_eq!(marks(1).await, [["key_limit"], ["key_limit"]]);
    assert_eq!(bench.selected(), [4, 4, 0], "marked, not stopped");
    // Another key's events are none of its business, unless it is the one they are charged to.
    let gateway = ("authorization", "Bearer sk-tc-v1-gateway");
    let stated = tracecast_otlp::hex(&hash(KEY));
    bench.otlp(&[gateway], request(&[span(3, &[])])).await;
    assert_eq!(marks(2).await, [Vec::<String>::new()]);
    bench.otlp(&[gateway], request(&[span(4, &[("tracecast.api_key_hash", &stated)])])).await;
    assert_eq!(marks(3).await, [["key_limit"]]);
}
