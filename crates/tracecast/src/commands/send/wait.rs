//! What becomes of the test generation at every destination.

use std::time::Duration;

use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracecast_otlp::hex;

use super::Sent;
use crate::Exit;
use crate::admin::{Admin, Failure};
use crate::output::{Table, cell, print, say};

/// How long a destination gets.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until the fate of the trace is sealed everywhere; fine if it has arrived wherever it was to go, and
/// somewhere.
pub(super) async fn wait(admin: &Admin, sent: &Sent, json: bool) -> Result<Exit, Failure> {
    let path = format!("/observability/events/{}", sent.trace_id);
    let until = Instant::now() + PATIENCE;
    let answer = loop {
        let answer = admin.get(&path, &[]).await?;
        let found = answer.body["data"]["destinations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let open = found.iter().any(|d| matches!(d["state"].as_str(), Some("pending" | "in_flight")));
        if !(open || found.is_empty()) || Instant::now() >= until {
            break answer;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let found = answer.body["data"]["destinations"].as_array().map(Vec::as_slice).unwrap_or_default();
    if json {
        print(&format!("{}\n", answer.text.trim_end()));
    } else {
        let mut table = Table::new(&["DESTINATION", "TYPE", "OUTCOME"], &[]);
        for at in found {
            table.row([cell(&at["name"]), cell(&at["type"]), outcome(admin, sent, at).await?]);
        }
        print(&table.text());
    }
    let in_state = |state: &str| found.iter().filter(|at| at["state"] == state).count();
    let (delivered, skipped) = (in_state("delivered"), in_state("skipped"));
    if found.is_empty() {
        say("no destination was asked: there is none in the workspace of the key");
    } else if delivered == 0 && skipped == found.len() {
        say("it went nowhere: every destination's rules leave it out");
    }
    Ok(if delivered > 0 && delivered + skipped == found.len() { Exit::Fine } else { Exit::No })
}

/// Delivered in so many ms, skipped and by which rule, or the error.
async fn outcome(admin: &Admin, sent: &Sent, at: &Json) -> Result<String, Failure> {
    let trouble = match at["last_error"]["excerpt"].as_str() {
        Some(text) => format!(": {text}"),
        None => String::new(),
    };
    Ok(match at["state"].as_str().unwrap_or_default() {
        "delivered" => format!("delivered in {:.0} ms", at["latency_ms"].as_f64().unwrap_or(0.0)),
        "skipped" => {
            let reasons = at["skipped"].as_object().into_iter().flatten().map(|(reason, _)| reason.as_str());
            let reason = reasons.collect::<Vec<_>>().join(", ");
            match rule(admin, sent, at).await? {
                Some(rule) => format!("skipped ({reason}): {rule}"),
                None => format!("skipped ({reason})"),
            }
        }
        "dead_lettered" => format!("refused for good, in the dead letters{trouble}"),
        "dropped" => {
            let reasons = at["dropped"].as_object().into_iter().flatten().map(|(reason, _)| reason.as_str());
            format!("given up ({}){trouble}", reasons.collect::<Vec<_>>().join(", "))
        }
        _ => format!("not there after {} attempts, still being tried{trouble}", cell(&at["attempts"])),
    })
}

/// The first rule that does not let it pass, in words; the preview knows them.
async fn rule(admin: &Admin, sent: &Sent, at: &Json) -> Result<Option<String>, Failure> {
    let mut event = sent.body.clone();
    if let Some(key) = &sent.key
        && let Some(attributes) =
            event.pointer_mut("/resourceSpans/0/resource/attributes").and_then(Json::as_array_mut)
    {
        // The rules see the key it was sent with.
        let hash = hex(&Sha256::digest(key.expose_secret().as_bytes()));
        attributes.push(json!({ "key": "tracecast.api_key_hash", "value": { "stringValue": hash } }));
    }
    let body = json!({ "id": at["destination_id"], "event": event });
    let shown = admin.call(Method::POST, "/observability/destinations/preview", &[], Some(&body)).await;
    let Ok(shown) = shown else { return Ok(None) };
    let decisions = shown.body["data"]["decisions"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(decisions.iter().find(|d| d["passed"] == false).map(|d| cell(&d["text"])))
}
