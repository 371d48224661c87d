//! `tracecast demo`: the product in one command. A gateway on free ports, stand-ins for five vendors,
//! destinations created through the real API, LLM traffic through the real ports, and the books.

mod story;
mod table;

use std::time::{Duration, Instant};

use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value as Json, json};
use tracecast_loadkit::sink::{Options as SinkOptions, Sink};
use tracecast_loadkit::standin::Role;

use super::block_on;
use crate::admin::Admin;
use crate::gateway::{Gateway, Secrets};
use crate::{Exit, config};

use table::{Row, Style};

/// Calls the demo's company makes.
const CALLS: usize = 1_200;
/// Nothing has moved for so long after the last call: what is pending then is not waited for. On a slow machine delivery
/// takes its time, and what is on its way would not agree with the books.
const QUIET: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave the gateway and the stand-ins running, and print addresses and keys.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: Args) -> Exit {
    if std::env::var_os("TRACECAST_LOG").is_some() {
        tracecast_telemetry::init_logs();
    }
    block_on(async move {
        match demo(args).await {
            Ok(exit) => exit,
            Err(error) => {
                eprintln!("tracecast demo: {error:#}");
                Exit::Internal
            }
        }
    })
}

/// A destination of the demo: how it is created, and the stand-in it delivers to.
struct Destination {
    name: &'static str,
    kind: &'static str,
    what: &'static str,
    sink: Sink,
    id: String,
}

async fn demo(args: Args) -> anyhow::Result<Exit> {
    let style = Style::detect();
    println!("{}", style.bold("tracecast demo: one gateway, five destinations, 1,200 LLM calls"));
    println!();

    let data = tempfile::tempdir()?;
    let management_key = format!("sk-tc-mgmt-{:032x}{:032x}", rand_u128(), rand_u128());
    let gateway = start_gateway(data.path(), &management_key).await?;
    let addresses = gateway.addresses();
    let url = format!("http://{}", addresses.admin);
    let admin = Admin::new(&url, SecretString::from(management_key.clone()))?;
    println!(
        "  ingest   http://{}  (OTLP/HTTP, /v1/events)   {}  (OTLP/gRPC)",
        addresses.http, addresses.grpc
    );
    println!("  admin    http://{}", addresses.admin);

    let web = create_key(&admin, "web-app").await?;
    let batch = create_key(&admin, "batch-jobs").await?;
    let destinations = create_destinations(&admin, &web).await?;
    println!("  created  2 keys and {} destinations through the API", destinations.len());
    println!();

    let started = Instant::now();
    let sent = story::tell(addresses, &web.secret, &batch.secret, CALLS, &style).await?;
    let rows = settle(&admin, &destinations).await?;
    println!(
        "{}",
        style.bold(&format!(
            "{} LLM calls, {} spans acknowledged, delivered in {:.1} s",
            sent.calls,
            sent.spans,
            started.elapsed().as_secs_f64()
        ))
    );
    println!();
    table::print(&rows, &style);
    println!();
    let balanced = verdict(&rows, sent.spans, &style);
    println!();
    suggestions(&style, args.keep);

    if args.keep {
        println!();
        println!("Running until Ctrl-C:");
        println!("  export TRACECAST_MANAGEMENT_KEY={management_key}");
        println!("  export TRACECAST_KEY={}", web.secret);
        println!(
            "  curl -H \"Authorization: Bearer $TRACECAST_MANAGEMENT_KEY\" http://{}/api/v1/observability/destinations",
            addresses.admin
        );
        for d in &destinations {
            println!("  {:<24} stand-in at http://{}/stats", d.name, d.sink.address());
        }
        super::until_stopped().await;
    }
    gateway.stop(std::future::pending()).await;
    Ok(if balanced { Exit::Fine } else { Exit::No })
}

fn rand_u128() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

async fn start_gateway(data_dir: &std::path::Path, management_key: &str) -> anyhow::Result<Gateway> {
    let mut config = config::load(None, Some(data_dir)).map_err(|m| anyhow::anyhow!("{m}"))?;
    let free = |address: &mut std::net::SocketAddr| address.set_port(0);
    free(&mut config.ingest_http);
    free(&mut config.ingest_grpc);
    free(&mut config.admin);
    let secrets =
        Secrets { management_key: Some(SecretString::from(management_key.to_owned())), master_key: None };
    Ok(Gateway::start(config, secrets).await?)
}

async fn create_destinations(admin: &Admin, web: &Key) -> anyhow::Result<Vec<Destination>> {
    let mut destinations = Vec::new();
    let mut add = async |name, kind, what, role, rules: Json, config: &dyn Fn(&str) -> Json| {
        let options = SinkOptions { role, ..SinkOptions::default() };
        let sink = Sink::start(([127, 0, 0, 1], 0).into(), options).await?;
        let url = format!("http://{}", sink.address());
        let mut body = json!({ "type": kind, "name": name, "config": config(&url) });
        for (key, value) in rules.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let created = admin.call(Method::POST, "/observability/destinations", &[], Some(&body)).await?.body;
        let id = created["data"]["id"].as_str().unwrap_or_default().to_owned();
        destinations.push(Destination { name, kind, what, sink, id });
        anyhow::Ok(())
    };
    add(
        "Langfuse, sampled",
        "langfuse",
        "a quarter of the sessions",
        Role::Langfuse,
        json!({ "sampling_rate": 0.25 }),
        &|url| json!({ "publicKey": "pk-lf-demo-0001", "secretKey": "sk-lf-demo-0001", "baseUrl": url }),
    )
    .await?;
    add(
        "Collector, private",
        "otel-collector",
        "everything, without prompts and answers",
        Role::Collector,
        json!({ "privacy_mode": true }),
        &|url| json!({ "endpoint": url }),
    )
    .await?;
    add(
        "Webhook, costly calls",
        "webhook",
        "calls above half a cent",
        Role::Collector,
        json!({ "filter_rules": { "groups": [{ "rules": [
            { "field": "total_cost", "operator": "gt", "value": 0.005 },
        ]}]}}),
        &|url| json!({ "url": format!("{url}/hook") }),
    )
    .await?;
    add(
        "S3, web-app only",
        "s3",
        "one key's calls, an object a trace",
        Role::S3,
        json!({ "api_key_hashes": [web.hash] }),
        &|url| {
            json!({
                "bucketName": "traces", "endpoint": url, "provider": "other", "region": "us-east-1",
                "accessKeyId": "AKIADEMODEMODEMO", "secretAccessKey": "demo-secret-demo-secret",
            })
        },
    )
    .await?;
    add(
        "ClickHouse, all",
        "clickhouse",
        "everything, as rows",
        Role::Clickhouse,
        json!({}),
        &|url| json!({ "host": url, "database": "default", "username": "default", "password": "demo-password" }),
    )
    .await?;
    Ok(destinations)
}

/// Waits until nothing is pending; the rows of the table.
async fn settle(admin: &Admin, destinations: &[Destination]) -> anyhow::Result<Vec<Row>> {
    let (mut pending, mut moved_at) = (u64::MAX, Instant::now());
    loop {
        let mut rows = Vec::new();
        for d in destinations {
            let path = format!("/observability/destinations/{}/stats", d.id);
            let stats = admin.get(&path, &[]).await?.body["data"].take();
            rows.push(Row::new(d.name, d.kind, d.what, &stats, d.sink.stats()));
        }
        let now = rows.iter().map(|r| r.pending).sum();
        if now != pending {
            (pending, moved_at) = (now, Instant::now());
        }
        if pending == 0 || moved_at.elapsed() > QUIET {
            return Ok(rows);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Checks the books against what the stand-ins counted, and says so.
fn verdict(rows: &[Row], spans: u64, style: &Style) -> bool {
    let mut wrong = Vec::new();
    for row in rows {
        if row.accepted != spans {
            wrong.push(format!("{}: {} accepted, {spans} acknowledged", row.name, row.accepted));
        }
        if row.accepted != row.selected + row.skipped_total {
            wrong.push(format!("{}: accepted is not selected + skipped", row.name));
        }
        if row.selected != row.delivered + row.dead_lettered + row.dropped + row.pending {
            wrong
                .push(format!("{}: selected is not delivered + dead-lettered + dropped + pending", row.name));
        }
        if row.arrived != row.delivered {
            wrong.push(format!("{}: {} delivered, {} arrived", row.name, row.delivered, row.arrived));
        }
        if row.private && row.with_content > 0 {
            wrong.push(format!("{}: {} spans arrived with content", row.name, row.with_content));
        }
    }
    if wrong.is_empty() {
        let selected: u64 = rows.iter().map(|r| r.selected).sum();
        let skipped: u64 = rows.iter().map(|r| r.skipped_total).sum();
        println!(
            "{} {spans} spans x {} destinations = {selected} selected + {skipped} skipped; every selected span arrived once",
            style.green("books balance:"),
            rows.len()
        );
        return true;
    }
    println!("{}", style.red("books do not balance:"));
    for line in wrong {
        println!("  {line}");
    }
    false
}

fn suggestions(style: &Style, kept: bool) {
    println!("{}", style.bold("What to try next"));
    if kept {
        println!(
            "  send your own:       OTEL_EXPORTER_OTLP_ENDPOINT at the ingest address above, any OTel SDK"
        );
    } else {
        println!("  keep it running:     tracecast demo --keep");
    }
    println!("  run it for real:     tracecast serve --config config/sidecar.yaml");
    println!("  see what is sent:    tracecast sink --print, and an otel-collector destination at it");
}

/// An ordinary key made through the API.
struct Key {
    secret: String,
    hash: String,
}

async fn create_key(admin: &Admin, name: &str) -> anyhow::Result<Key> {
    let answer = admin.call(Method::POST, "/keys", &[], Some(&json!({ "name": name }))).await?.body;
    let text = |v: &Json| v.as_str().unwrap_or_default().to_owned();
    Ok(Key { secret: text(&answer["key"]), hash: text(&answer["data"]["hash"]) })
}
