//! What a destination refused, sending it again, and sending the past.

use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::Target;
use crate::Exit;
use crate::admin::{Admin, Failure};
use crate::commands::Connection;
use crate::output::{Table, cell, fields, finish, say, visible};

/// Page size of the API.
const PAGE: usize = 1_000;
/// What one looks for first in a letter.
const FIRST: [&str; 7] = ["id", "at", "reason", "status", "excerpt", "attempts", "spans"];

/// Which dead letters; none of these = all.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// Only this one.
    #[arg(long, value_name = "ID")]
    id: Option<u64>,
    /// Only those given up for this reason: rejected, too_large or unencodable.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only those given up at this time or later, like 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only those given up before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Letters {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    filter: Filter,
    /// Remove them for good.
    #[arg(long)]
    delete: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub(super) struct Backfill {
    #[command(flatten)]
    target: Target,
    /// Records received at this time or later, like 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: String,
    #[command(flatten)]
    connection: Connection,
}

impl Filter {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let text = |value: &Option<String>| value.clone();
        let all = [
            ("id", self.id.map(|id| id.to_string())),
            ("reason", text(&self.reason)),
            ("from", text(&self.from)),
            ("to", text(&self.to)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Letters {
    pub(super) fn run(self) -> Exit {
        let Letters { target, filter, delete, connection } = self;
        connection.run(async |admin| {
            let path = format!("{}/dead-letters", target.path(&admin).await?);
            let pairs = filter.pairs();
            let query: Vec<(&str, &str)> =
                pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
            if delete {
                let answer = admin.call(Method::DELETE, &path, &query, None).await?;
                finish(&answer, connection.json, |body| {
                    format!("{} dead letters deleted\n", cell(&body["data"]["deleted"]))
                });
                return Ok(Exit::Fine);
            }
            match filter.id {
                Some(id) => {
                    let answer = admin.get(&format!("{path}/{id}"), &[]).await?;
                    finish(&answer, connection.json, |body| show(&body["data"]));
                    Ok(Exit::Fine)
                }
                None => list(&admin, &path, query, connection.json).await,
            }
        })
    }
}

async fn list(admin: &Admin, path: &str, query: Vec<(&str, &str)>, json: bool) -> Result<Exit, Failure> {
    let limit = PAGE.to_string();
    let query = [query, vec![("limit", limit.as_str())]].concat();
    let answer = admin.get(path, &query).await?;
    let total = answer.body["total_count"].as_u64().unwrap_or(0);
    finish(&answer, json, |body| {
        let letters = body["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        if letters.is_empty() { String::new() } else { table(letters) }
    });
    if total == 0 {
        say("no dead letter");
    } else if total > PAGE as u64 {
        say(&format!("{total} in all, the {PAGE} oldest are shown: narrow it with --from, --to, --reason"));
    }
    if let Some(waiting) = answer.body["replaying"].as_u64().filter(|n| *n > 0) {
        say(&format!("{waiting} wait for their turn to be sent again"));
    }
    Ok(Exit::Fine)
}

fn table(letters: &[Json]) -> String {
    let mut table =
        Table::new(&["ID", "AT", "REASON", "STATUS", "ATTEMPTS", "SPANS", "TRACE", "ANSWER"], &[0]);
    for letter in letters {
        let told: String = letter["excerpt"].as_str().unwrap_or_default().chars().take(60).collect();
        let keys = ["id", "at", "reason", "status", "attempts", "spans"];
        let trace = cell(&letter["trace_ids"][0]);
        table.row(keys.map(|key| cell(&letter[key])).into_iter().chain([trace, told]));
    }
    table.text()
}

fn show(letter: &Json) -> String {
    let mut letter = letter.clone();
    let content = letter.as_object_mut().and_then(|fields| fields.remove("content")).unwrap_or_default();
    let content = serde_json::to_string_pretty(&content).unwrap_or_default();
    format!("{}\n{content}\n", fields(&letter, &FIRST))
}

impl Replay {
    pub(super) fn run(self) -> Exit {
        let Replay { target, filter, connection } = self;
        connection.run(async |admin| {
            let path = format!("{}/dead-letters/replay", target.path(&admin).await?);
            let body: Map<String, Json> =
                filter.pairs().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            let answer = admin.call(Method::POST, &path, &[], Some(&body.into())).await?;
            let data = &answer.body["data"];
            finish(&answer, connection.json, |body| {
                let data = &body["data"];
                format!("{} spans sent again\n", cell(&data["requeued"]))
            });
            if let Some(waiting) = data["waiting"].as_u64().filter(|n| *n > 0) {
                say(&format!("{waiting} dead letters follow, at a tenth of the destination's rate"));
            }
            if data["matched"] == 0 {
                say("no dead letter");
            }
            Ok(Exit::Fine)
        })
    }
}

impl Backfill {
    pub(super) fn run(self) -> Exit {
        let Backfill { target, from, connection } = self;
        connection.run(async |admin| {
            let path = format!("{}/backfill", target.path(&admin).await?);
            let answer = admin.call(Method::POST, &path, &[], Some(&json!({ "from": from }))).await?;
            let data = &answer.body["data"];
            finish(&answer, connection.json, |body| {
                let data = &body["data"];
                format!(
                    "{} spans sent again, of {} records\n",
                    cell(&data["requeued"]),
                    cell(&data["records"])
                )
            });
            if let Some(next) = data["next_from"].as_str() {
                say(&visible(&format!("not all fitted: go on with --from {next} when this is delivered")));
            } else if data["complete"] == false {
                match data["oldest_at"].as_str() {
                    Some(oldest) => say(&visible(&format!(
                        "the log reaches back to {oldest} only: `log.retain` says how long it keeps what is delivered"
                    ))),
                    None => say("the log holds nothing: `log.retain` says how long it keeps what is delivered"),
                }
            }
            Ok(Exit::Fine)
        })
    }
}
