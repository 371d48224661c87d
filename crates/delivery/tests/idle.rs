//! What ten thousand destinations cost that have nothing to do. A process of its own, so that its memory is theirs.

use std::sync::Arc;

use serde_json::json;
use tracecast_delivery::{Delivery, Options};
use tracecast_destination::{CreateDefaults, DEFAULT_WORKSPACE_ID, Destination, ManagedBy};
use tracecast_log::{Durability, Log, Options as LogOptions};
use tracecast_sinks::Clients;
use uuid::Uuid;

const DESTINATIONS: u32 = 10_000;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib << 10
}

fn destination(n: u32) -> Destination {
    let kinds = [
        ("otel-collector", json!({ "endpoint": "https://collector.example.com" })),
        ("webhook", json!({ "url": "https://example.com/hook" })),
    ];
    let (kind, config) = &kinds[n as usize % kinds.len()];
    let body = json!({ "type": kind, "name": format!("destination {n}"), "config": config });
    let defaults = CreateDefaults {
        id: Uuid::from_u128(u128::from(n) + 1),
        workspace_id: DEFAULT_WORKSPACE_ID,
        managed_by: ManagedBy::Api,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    Destination::create(&body, defaults).expect("a valid destination")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_destination_is_under_4_kib_and_has_no_task() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = LogOptions {
        dir: dir.path().join("log"),
        durability: Durability::Buffered,
        max_bytes: 64 << 20,
        max_age: Options::default().max_age,
        retain: std::time::Duration::ZERO,
        segment_bytes: 4 << 20,
        cache_bytes: 1 << 20,
        without_content: None,
    };
    let (log, _) = Log::open(options).expect("the log opens");
    let delivery = Delivery::new(log.clone(), Clients::new().expect("clients"), Options::default());
    let destinations: Vec<_> =
        (0..DESTINATIONS).map(destination).map(|d| (log.slot(*d.id.as_bytes()), Arc::new(d))).collect();
    delivery.apply(&destinations[..1]);
    let before = resident_bytes();
    assert_eq!(delivery.apply(&destinations), []);
    delivery.recover();
    let each = resident_bytes().saturating_sub(before) / u64::from(DESTINATIONS);
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    println!("{each} bytes per idle destination, {tasks} tasks for {DESTINATIONS}");
    assert!(each < 4096, "{each} bytes per idle destination");
    assert_eq!(tasks, 0);
    log.close();
}
