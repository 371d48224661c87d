//! `tracecast tail`: a line per event as it comes.

use serde_json::Value as Json;

use super::Connection;
use super::destination::find;
use crate::Exit;
use crate::admin::{Admin, Failure};
use crate::output::{cell, print, say, visible};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what this destination gets: its id, or a name that only one destination has.
    #[arg(long, value_name = "DESTINATION")]
    destination: Option<String>,
    /// Only what the destination, or any, does not get.
    #[arg(long)]
    skipped: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(args: Args) -> Exit {
    let Args { destination, skipped, connection } = args;
    connection.run(async |admin| {
        tokio::select! {
            ended = follow(&admin, destination.as_deref(), skipped, connection.json) => ended,
            () = super::until_stopped() => Ok(Exit::Fine),
        }
    })
}

async fn follow(
    admin: &Admin,
    destination: Option<&str>,
    skipped: bool,
    json: bool,
) -> Result<Exit, Failure> {
    let id = match destination {
        Some(reference) => Some(find(admin, reference, None).await?.to_string()),
        None => None,
    };
    let mut query = Vec::new();
    query.extend(id.as_deref().map(|id| ("destination_id", id)));
    query.extend(skipped.then_some(("skipped", "true")));
    let mut stream = admin.stream("/observability/tail", &query).await?;
    say("waiting for events");
    let mut events = Events::default();
    while let Some(bytes) = stream.next().await? {
        for (event, data) in events.push(&bytes) {
            let body: Json = serde_json::from_str(&data).unwrap_or_default();
            match event.as_str() {
                "span" if json => print(&format!("{data}\n")),
                "span" => print(&line(&body)),
                "lost" => say(&format!("{} events were not shown: too slow", cell(&body["lost"]))),
                _ => {}
            }
        }
    }
    say("tracecast: the gateway ended the stream");
    Ok(Exit::Unreachable)
}

/// Server-sent events out of the pieces they arrive in.
#[derive(Debug, Default)]
struct Events {
    rest: Vec<u8>,
}

impl Events {
    /// Name and data of the events that are complete by now.
    fn push(&mut self, bytes: &[u8]) -> Vec<(String, String)> {
        self.rest.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|w| w == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let value =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
            if let Some(data) = value("data:") {
                found.push((value("event:").unwrap_or_default().to_owned(), data.to_owned()));
            }
        }
        found
    }
}

/// `time  model  tokens  cost  -> destinations  not destination (rule)`.
fn line(event: &Json) -> String {
    let at = event["at"].as_str().and_then(|at| at.split('T').nth(1)).unwrap_or("-");
    let what = event["model"].as_str().or(event["name"].as_str()).unwrap_or("-");
    let tokens = match (&event["input_tokens"], &event["output_tokens"]) {
        (Json::Null, Json::Null) => "-".to_owned(),
        (input, output) => format!("{}/{}", cell(input), cell(output)),
    };
    let cost = event["cost"].as_f64().map_or("-".to_owned(), |cost| format!("${cost:.6}"));
    let destinations = event["destinations"].as_array().map(Vec::as_slice).unwrap_or_default();
    let to: Vec<String> =
        destinations.iter().filter(|d| d["selected"] == true).map(|d| cell(&d["name"])).collect();
    let not: Vec<String> = destinations
        .iter()
        .filter(|d| d["selected"] == false)
        .map(|d| format!("{} ({})", cell(&d["name"]), cell(&d["skipped"])))
        .collect();
    let to = if to.is_empty() { "nowhere".to_owned() } else { to.join(", ") };
    let not = if not.is_empty() { String::new() } else { format!("  not {}", not.join(", ")) };
    format!("{}\n", visible(&format!("{at}  {what}  {tokens} tokens  {cost}  -> {to}{not}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_found_in_whatever_pieces_they_come() {
        let stream = b"event: span\ndata: {\"a\":1}\n\n: keep-alive\n\nevent: lost\ndata: {\"lost\":3}\n\n";
        for size in [1, 3, 7, stream.len()] {
            let mut events = Events::default();
            let found: Vec<_> = stream.chunks(size).flat_map(|piece| events.push(piece)).collect();
            let expected =
                [("span".to_owned(), "{\"a\":1}".to_owned()), ("lost".to_owned(), "{\"lost\":3}".to_owned())];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_line_says_where_it_goes_and_why_not_elsewhere() {
        let event = json!({
            "at": "2026-01-31T12:00:01.250Z", "model": "gpt-4o", "name": "chat", "input_tokens": 40, "output_tokens": 12,
            "cost": 0.00125, "destinations": [
                { "name": "a", "selected": true, "skipped": null },
                { "name": "b", "selected": false, "skipped": "filter" },
            ],
        });
        assert_eq!(line(&event), "12:00:01.250Z  gpt-4o  40/12 tokens  $0.001250  -> a  not b (filter)\n");
        let bare = json!({ "at": "2026-01-31T12:00:01Z", "name": "tool\u{1b}", "destinations": [] });
        assert_eq!(line(&bare), "12:00:01Z  tool\\u{1b}  - tokens  -  -> nowhere\n");
    }
}
