//! Pressure: every destination hangs and events of every size come in, or the descriptors run out.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::{Gateway, Home, MANAGEMENT_KEY, PATIENCE, assert_balanced};
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

const CEILING_BYTES: u64 = 256 << 20;
const SIZES: [usize; 6] = [8 << 10, 64 << 10, 8 << 10, 512 << 10, 2 << 20, 8_000_000];

/// The most memory the process ever held.
fn peak_bytes(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.pid());
    let status = std::fs::read_to_string(path).expect("the process runs");
    let bytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of /proc/*/status");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") << 10
    };
    // The mapped binary is not what the gateway takes: in a debug build it is several times the release's.
    bytes("VmHWM:") - bytes("RssFile:")
}

async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let text = reqwest::get(format!("{}/metrics", gateway.admin))
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    let line =
        text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} is missing:\n{text}"));
    line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hung_destinations_and_huge_events_stay_below_the_ceiling() {
    const BYTES: u64 = 160 << 20;
    let home = Home::new(BINARY);
    home.config("limits: { memory_bytes: 256MiB }\n");
    let gateway = Arc::new(home.start());
    let hung = Options { stall: true, ..Options::default() };
    let (mut sinks, mut ids) = (Vec::new(), Vec::new());
    for (i, kind) in ["otel-collector", "webhook", "langfuse", "otel-collector"].into_iter().enumerate() {
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), hung.clone()).await.expect("a sink");
        let url = format!("http://{}", sink.address());
        let config = match kind {
            "otel-collector" => json!({ "endpoint": url }),
            "webhook" => json!({ "url": url }),
            _ => json!({ "baseUrl": url, "publicKey": "pk-lf-1", "secretKey": "sk-lf-1" }),
        };
        ids.push(gateway.simple(kind, &format!("hung {i}"), config).await);
        sinks.push(sink);
    }
    let (next, acked, refused, sent) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let counters = Arc::new((next, acked, refused, sent));
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let (gateway, counters) = (gateway.clone(), counters.clone());
            tokio::spawn(async move {
                let (next, acked, refused, sent) = &*counters;
                while sent.load(Ordering::Relaxed) < BYTES {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let size = SIZES[n as usize % SIZES.len()];
                    let body = request(&[generation(n, &"x".repeat(size / 2))]);
                    sent.fetch_add(body.len() as u64, Ordering::Relaxed);
                    match gateway.send(body).await.0 {
                        200 => _ = acked.fetch_add(1, Ordering::Relaxed),
                        503 => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            // As exporters do, though they wait for longer: otherwise the refusals are counted by how
                            // fast this machine can ask.
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        status => panic!("{status}"),
                    }
                }
            })
        })
        .collect();
    let mut accounted = 0f64;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        accounted = accounted.max(metric(&gateway, "tracecast_memory_used_bytes").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for client in clients {
        client.await.expect("a client ends");
    }
    let (_, acked, refused, sent) = &*counters;
    let (acked, refused) = (acked.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    let peak = peak_bytes(&gateway);
    println!(
        "{} MB sent, {acked} acknowledged, {refused} refused; peak {} MB of {} MB, accounted for at most {:.0} MB",
        sent.load(Ordering::Relaxed) >> 20,
        peak >> 20,
        CEILING_BYTES >> 20,
        accounted / f64::from(1 << 20),
    );
    assert!(peak < CEILING_BYTES, "{} MB", peak >> 20);
    assert!(accounted <= CEILING_BYTES as f64);
    assert!(acked > refused, "{acked} acknowledged, {refused} refused");

    // Nothing was lost to the pressure: it is all there and can be sent.
    for sink in &sinks {
        sink.behave(Options::default());
    }
    let started = Instant::now();
    for id in &ids {
        let (status, answer) =
            gateway.api("POST", &format!("/observability/destinations/{id}/resume"), None).await;
        assert_eq!(status, 200, "{answer}");
    }
    for id in &ids {
        loop {
            let stats = gateway.stats(id).await;
            if stats["pending"] == 0 {
                assert_balanced(&stats);
                assert_eq!(stats["delivered"].as_u64(), Some(acked), "{stats:#}");
                break;
            }
            assert!(started.elapsed() < 10 * PATIENCE, "still pending: {stats:#}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let peak = peak_bytes(&gateway);
    println!("peak {} MB after {:?} of delivery", peak >> 20, started.elapsed());
    assert!(peak < CEILING_BYTES, "{} MB while it was delivered", peak >> 20);
}

/// Clock ticks the process has computed for.
fn cpu_ticks(gateway: &Gateway) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).expect("the process runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11..13].iter().filter_map(|n| n.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_out_of_descriptors_waits_quietly_and_comes_back() {
    let home = Home::new(BINARY);
    home.config("");
    let mut command = std::process::Command::new("sh");
    let serve = home.command(&["serve", "--config", "config.yaml"]);
    command.args(["-c", "ulimit -n 56; exec \"$@\"", "sh"]).arg(serve.get_program()).args(serve.get_args());
    command.current_dir(home.path()).env("TRACECAST_MANAGEMENT_KEY", MANAGEMENT_KEY);
    let gateway = home.spawn(command);
    let address = gateway.http.trim_start_matches("http://").to_owned();
    let admin = gateway.admin.trim_start_matches("http://").to_owned();
    // Of both listeners, so that neither's own cap saves it; the backlog takes what is not accepted.
    let open: Vec<TcpStream> =
        (0..60).flat_map(|_| [&address, &admin]).filter_map(|a| TcpStream::connect(a).ok()).collect();
    assert_eq!(open.len(), 120);
    let (before, started) = (cpu_ticks(&gateway), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ticks = cpu_ticks(&gateway) - before;
    let share = ticks as f64 / 100.0 / started.elapsed().as_secs_f64();
    println!("out of descriptors: {:.0} % of a core", share * 100.0);
    assert!(share < 0.5, "{share} of a core");
    let told = home.stderr().matches("no connection can be accepted").count();
    assert!(told <= 10, "told {told} times");

    drop(open);
    let started = Instant::now();
    while !matches!(reqwest::get(format!("{}/healthz", gateway.admin)).await, Ok(answer) if answer.status() == 200)
    {
        assert!(started.elapsed() < PATIENCE, "it does not come back:\n{}", home.stderr());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gateway.send(request(&[generation(1, "x")])).await.0, 200);
    assert_eq!(gateway.stop(), 0);
}
