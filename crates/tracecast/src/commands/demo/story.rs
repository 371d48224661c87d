//! The demo's traffic: a company's LLM calls, by OTLP/HTTP and as JSON events, with live progress.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;
use tracecast_loadkit::traffic::Story;
use tracecast_otlp::write::{OwnedValue, resource_spans};

use super::table::Style;
use crate::gateway::BoundAddresses;

/// Calls told in one request.
const PER_REQUEST: usize = 6;
/// The traffic takes about this long, so that progress can be seen.
const TAKES: Duration = Duration::from_secs(4);

/// What was sent and acknowledged.
pub(super) struct Sent {
    pub(super) calls: usize,
    pub(super) spans: u64,
}

/// Two applications: one instrumented with OpenTelemetry (`web`), one that only has JSON logs (`batch`).
pub(super) async fn tell(
    addresses: BoundAddresses,
    web: &str,
    batch: &str,
    calls: usize,
    style: &Style,
) -> anyhow::Result<Sent> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut story = Story::new(2026);
    let mut sent = Sent { calls: 0, spans: 0 };
    let requests = calls / PER_REQUEST;
    let mut ticks = tokio::time::interval(TAKES / requests.max(1) as u32);
    for n in 0..requests {
        ticks.tick().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        if n % 4 == 3 {
            let events: Vec<Json> = (0..PER_REQUEST)
                .map(|i| story.call(now).event(&format!("gen-{}-demo{n:04}x{i}", now / 1_000_000_000)))
                .collect();
            let response = client
                .post(format!("http://{}/v1/events", addresses.http))
                .bearer_auth(batch)
                .json(&events)
                .send()
                .await?;
            anyhow::ensure!(response.status().is_success(), "/v1/events answered {}", response.status());
            let answer: Json = response.json().await?;
            sent.spans += answer["spans"].as_u64().unwrap_or(0);
        } else {
            let spans: Vec<_> = (0..PER_REQUEST)
                .map(|_| {
                    let (trace, span) = story.ids();
                    story.call(now).span(trace, span)
                })
                .collect();
            let mut body = Vec::new();
            let resource = [("service.name".to_owned(), OwnedValue::from("web-app"))];
            resource_spans(&resource, "opentelemetry.instrumentation.openai", "2.4", &spans, &mut body);
            let response = client
                .post(format!("http://{}/v1/traces", addresses.http))
                .bearer_auth(web)
                .header("content-type", "application/x-protobuf")
                .body(body)
                .send()
                .await?;
            anyhow::ensure!(response.status().is_success(), "/v1/traces answered {}", response.status());
            sent.spans += spans.len() as u64;
        }
        sent.calls += PER_REQUEST;
        style.progress(sent.calls, calls, "calls sent and acknowledged");
    }
    style.progress_done();
    Ok(sent)
}
