//! `tracecast stats`: the books of the gateway, or of one destination.

use serde_json::Value as Json;

use super::Connection;
use super::destination::find;
use crate::Exit;
use crate::admin::{Admin, Failure};
use crate::output::{Table, cell, fields, print, print_body, say, visible};

const PATH: &str = "/observability/stats";
/// Page size of the API.
const PAGE: usize = 1_000;
/// The books of a destination, in the order in which they add up.
const FIRST: [&str; 13] = [
    "name",
    "type",
    "state",
    "since",
    "accepted",
    "skipped",
    "selected",
    "requeued",
    "delivered",
    "dead_lettered",
    "dropped",
    "pending",
    "in_flight",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this destination, in full: an id, or a name that only one has.
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
    /// Only this workspace (id or slug).
    #[arg(long, value_name = "WORKSPACE")]
    workspace: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(args: Args) -> Exit {
    let Args { destination, workspace, connection } = args;
    connection.run(async |admin| {
        match &destination {
            Some(reference) => one(&admin, reference, workspace.as_deref(), connection.json).await?,
            None => all(&admin, workspace.as_deref(), connection.json).await?,
        }
        Ok(Exit::Fine)
    })
}

async fn one(admin: &Admin, reference: &str, workspace: Option<&str>, json: bool) -> Result<(), Failure> {
    let id = find(admin, reference, workspace).await?;
    let answer = admin.get(&format!("/observability/destinations/{id}/stats"), &[]).await?;
    if json {
        print_body(&answer.text);
        return Ok(());
    }
    let mut stats = answer.body["data"].clone();
    // Told as messages below.
    if let Some(stats) = stats.as_object_mut() {
        stats.remove("warnings");
    }
    print(&fields(&stats, &FIRST));
    tell_warnings(&answer.body["data"]);
    Ok(())
}

async fn all(admin: &Admin, workspace: Option<&str>, json: bool) -> Result<(), Failure> {
    let limit = PAGE.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(workspace.map(|workspace| ("workspace_id", workspace)));
    let answer = admin.get(PATH, &query).await?;
    let total = answer.body["total_count"].as_u64().unwrap_or(0);
    if json {
        print_body(&answer.text);
        if total > PAGE as u64 {
            say(&format!("{total} destinations in all, {PAGE} of them here: --workspace narrows"));
        }
        return Ok(());
    }
    let destinations = match &answer.body["data"]["destinations"] {
        Json::Array(page) if total <= PAGE as u64 => page.clone(),
        _ => admin.all(PATH, &query, PAGE, "/data/destinations").await?,
    };
    print(&gateway_line(&answer.body["data"]["gateway"]));
    if destinations.is_empty() {
        say("no destination");
        return Ok(());
    }
    print(&format!("\n{}", table(&destinations)));
    for destination in &destinations {
        tell_warnings(destination);
        tell_last_error(destination);
    }
    Ok(())
}

fn gateway_line(gateway: &Json) -> String {
    let rejected = sum(&gateway["rejected"]);
    let reasons = reasons(&gateway["rejected"]);
    let reasons = if reasons.is_empty() { reasons } else { format!(" ({reasons})") };
    let bytes = gateway["log_bytes"].as_u64().unwrap_or(0);
    let accepted = gateway["accepted"].as_u64().unwrap_or(0);
    format!("accepted {accepted}, rejected {rejected}{reasons}, log {}\n", human(bytes))
}

fn table(destinations: &[Json]) -> String {
    let heading =
        ["NAME", "TYPE", "STATE", "SELECTED", "DELIVERED", "PENDING", "OLDEST", "DEAD", "DROPPED", "SKIPPED"];
    let mut table = Table::new(&heading, &[3, 4, 5, 6, 7, 8]);
    for d in destinations {
        let oldest = match d["oldest_pending_seconds"].as_f64() {
            Some(seconds) if d["pending"].as_u64() > Some(0) => format!("{seconds:.0}s"),
            _ => "-".to_owned(),
        };
        let skipped = reasons(&d["skipped"]);
        table.row([
            cell(&d["name"]),
            cell(&d["type"]),
            cell(&d["state"]),
            cell(&d["selected"]),
            cell(&d["delivered"]),
            cell(&d["pending"]),
            oldest,
            cell(&d["dead_lettered"]),
            sum(&d["dropped"]).to_string(),
            if skipped.is_empty() { "0".to_owned() } else { skipped },
        ]);
    }
    table.text()
}

/// What the gateway advises.
fn tell_warnings(stats: &Json) {
    let name = cell(&stats["name"]);
    for warning in stats["warnings"].as_array().into_iter().flatten() {
        say(&visible(&format!("{name}: {}", cell(warning))));
    }
}

/// Why delivery last failed, if there is something left to deliver.
fn tell_last_error(stats: &Json) {
    let error = &stats["last_error"];
    if error.is_object() && stats["pending"].as_u64() > Some(0) {
        let text = ["at", "status", "excerpt"].map(|key| cell(&error[key])).join(" ");
        say(&visible(&format!("{}: last error: {text}", cell(&stats["name"]))));
    }
}

/// The sum of counters by reason.
fn sum(reasons: &Json) -> u64 {
    reasons.as_object().map_or(0, |map| map.values().filter_map(Json::as_u64).sum())
}

/// `sampled 3, key 1`: the reasons that occurred.
fn reasons(reasons: &Json) -> String {
    let some = reasons.as_object().into_iter().flatten().filter(|(_, n)| n.as_u64() > Some(0));
    some.map(|(reason, n)| format!("{reason} {n}")).collect::<Vec<_>>().join(", ")
}

/// Bytes in the largest unit that leaves at least one of it.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_books_fit_in_a_line() {
        let gateway =
            json!({ "accepted": 7, "rejected": { "auth": 2, "body": 0, "id": 1 }, "log_bytes": 1536 });
        assert_eq!(gateway_line(&gateway), "accepted 7, rejected 3 (auth 2, id 1), log 1.5 KiB\n");
        let stats = json!({
            "name": "n", "type": "webhook", "state": "healthy", "selected": 5, "delivered": 4, "pending": 1,
            "oldest_pending_seconds": 2.4, "dead_lettered": 0, "dropped": { "age": 0 },
            "skipped": { "sampled": 2, "key": 0 },
        });
        let text = table(&[stats]);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["n", "webhook", "healthy", "5", "4", "1", "2s", "0", "0", "sampled", "2"]);
    }

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 40, "5.0 TiB")] {
            assert_eq!(human(bytes), text);
        }
    }
}
