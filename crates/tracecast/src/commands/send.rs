//! `tracecast send`: one recognisable test generation, as OTLP; with `--wait`, what becomes of it.

mod wait;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value as Json, json};
use tracecast_destination::otlp_traces_url;
use uuid::Uuid;

use super::{Connection, block_on};
use crate::Exit;
use crate::admin::innermost;
use crate::output::{print, say, visible};

/// What the span is called, so that a person finds it at the destination.
const NAME: &str = "tracecast test generation";
/// How long the call it tells of took.
const TOOK: Duration = Duration::from_millis(800);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer that is not OTLP's, so much is shown.
const EXCERPT_CHARS: usize = 300;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// OTLP/HTTP endpoint; an empty path gets `/v1/traces`.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318")]
    target: String,
    /// Ordinary key, sent as Bearer.
    #[arg(long, value_name = "KEY", env = "TRACECAST_KEY", hide_env_values = true)]
    key: Option<SecretString>,
    /// Model the generation names.
    #[arg(long, value_name = "M", default_value = "tracecast-test")]
    model: String,
    /// Wait until every destination has it and say what became of it there; needs the management key.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(args: Args) -> Exit {
    if !args.wait {
        return block_on(async { send(&args).await.map_or_else(|exit| exit, |_| Exit::Fine) });
    }
    args.connection.run(async |admin| match send(&args).await {
        Ok(sent) => wait::wait(&admin, &sent, args.connection.json).await,
        Err(exit) => Ok(exit),
    })
}

/// What was sent and accepted.
struct Sent {
    trace_id: String,
    /// The request, for the rules to be asked about it.
    body: Json,
    key: Option<SecretString>,
}

async fn send(args: &Args) -> Result<Sent, Exit> {
    let url = otlp_traces_url(args.target.trim());
    let is_http = reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_http {
        say("tracecast: --target is not an http or https URL, like http://127.0.0.1:4318");
        return Err(Exit::Usage);
    }
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            say(&format!("tracecast: no HTTP client: {}", innermost(&error)));
            return Err(Exit::Internal);
        }
    };
    let trace_id = Uuid::new_v4().simple().to_string();
    let span_id: String = Uuid::new_v4().simple().to_string().chars().take(16).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let body = generation(&trace_id, &span_id, &args.model, now);
    let mut request = client.post(&url).json(&body);
    if let Some(key) = &args.key {
        request = request.bearer_auth(key.expose_secret());
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_builder() => {
            say("tracecast: --key has characters no request can carry");
            return Err(Exit::Usage);
        }
        Err(error) => {
            say(&format!("tracecast: {} does not answer: {}", args.target, innermost(&error)));
            return Err(Exit::Unreachable);
        }
    };
    let status = response.status().as_u16();
    let text = response.text().await.unwrap_or_default();
    let (exit, message) = verdict(status, &text);
    if exit == Exit::Fine {
        if !(args.wait && args.connection.json) {
            print(&format!("{trace_id}\n"));
        }
        say(&visible(&format!("accepted: `{NAME}`, model {}", args.model)));
        Ok(Sent { trace_id, body, key: args.key.clone() })
    } else {
        say(&visible(&format!("tracecast: {message}")));
        if exit == Exit::KeyRefused && args.key.is_none() {
            say("no key was sent: give --key or set TRACECAST_KEY (`tracecast key create` makes one)");
        }
        Err(exit)
    }
}

/// What an answer means. OTLP says 200 also for a request whose one span it refused.
fn verdict(status: u16, text: &str) -> (Exit, String) {
    let body: Json = serde_json::from_str(text).unwrap_or_default();
    match status {
        200..300 => {
            let partial = &body["partialSuccess"];
            // A 64-bit number is text in OTLP/JSON; some servers send a number all the same.
            let rejected = match &partial["rejectedSpans"] {
                Json::String(text) => text.parse().unwrap_or(0),
                number => number.as_i64().unwrap_or(0),
            };
            let message = partial["errorMessage"].as_str().unwrap_or("no reason given");
            match rejected {
                0 => (Exit::Fine, String::new()),
                _ => (Exit::No, format!("the span was refused: {message}")),
            }
        }
        _ => {
            let told = body["message"].as_str().or_else(|| body["error"]["message"].as_str());
            let excerpt: String = told.unwrap_or(text.trim()).chars().take(EXCERPT_CHARS).collect();
            let exit = if matches!(status, 401 | 403) { Exit::KeyRefused } else { Exit::No };
            (exit, format!("the answer is {status}: {excerpt}"))
        }
    }
}

/// An export request of one span, as OTLP/JSON.
fn generation(trace_id: &str, span_id: &str, model: &str, end: Duration) -> Json {
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let number = |key: &str, value: u32| json!({ "key": key, "value": { "intValue": value.to_string() } });
    let message = |role: &str, content: &str| {
        json!([{ "role": role, "parts": [{ "type": "text", "content": content }] }]).to_string()
    };
    let start = end.saturating_sub(TOOK);
    json!({ "resourceSpans": [{
        "resource": { "attributes": [text("service.name", "tracecast-send")] },
        "scopeSpans": [{
            "scope": { "name": "tracecast", "version": env!("CARGO_PKG_VERSION") },
            "spans": [{
                "traceId": trace_id,
                "spanId": span_id,
                "name": NAME,
                "kind": 3,
                "startTimeUnixNano": start.as_nanos().to_string(),
                "endTimeUnixNano": end.as_nanos().to_string(),
                "status": { "code": 1 },
                "attributes": [
                    text("gen_ai.operation.name", "chat"),
                    text("gen_ai.provider.name", "tracecast"),
                    text("gen_ai.request.model", model),
                    text("gen_ai.response.model", model),
                    number("gen_ai.usage.input_tokens", 6),
                    number("gen_ai.usage.output_tokens", 7),
                    text("gen_ai.input.messages", &message("user", "Is this tracecast test generation arriving?")),
                    text("gen_ai.output.messages", &message("assistant", "If you can read this, it is.")),
                ],
            }],
        }],
    }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_what_became_of_the_span() {
        let cases = [
            (200, "{}", Exit::Fine),
            (200, "", Exit::Fine),
            (202, r#"{"partialSuccess":{}}"#, Exit::Fine),
            (200, r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"why"}}"#, Exit::No),
            (200, r#"{"partialSuccess":{"rejectedSpans":1}}"#, Exit::No),
            (401, "", Exit::KeyRefused),
            (403, "{}", Exit::KeyRefused),
            (404, "not here", Exit::No),
            (503, r#"{"message":"busy"}"#, Exit::No),
        ];
        for (status, text, exit) in cases {
            assert_eq!(verdict(status, text).0, exit, "{status} {text}");
        }
        assert!(
            verdict(200, r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"why"}}"#)
                .1
                .contains("why")
        );
        assert!(verdict(503, r#"{"message":"busy"}"#).1.contains("busy"));
    }

    #[test]
    fn the_span_is_what_a_strict_reader_takes() {
        let body = generation(&"ab".repeat(16), &"cd".repeat(8), "m", Duration::from_secs(1_800_000_000));
        let limits = tracecast_otlp::Limits::default();
        let (bytes, rejected) = tracecast_otlp::json::decode(body.to_string().as_bytes(), &limits).unwrap();
        assert!(rejected.is_empty() && !bytes.is_empty());
    }
}
