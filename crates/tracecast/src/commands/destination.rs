//! `tracecast destination`: destinations through the admin API.

mod body;
mod letters;

use reqwest::Method;
use serde_json::Value as Json;
use uuid::Uuid;

use super::Connection;
use crate::Exit;
use crate::admin::{Admin, Failure};
use crate::output::{Table, cell, fields, finish, print, print_body, say, visible};

use body::{Description, Settings};

/// Page sizes of the API.
const LIST_PAGE: usize = 100;
const STATS_PAGE: usize = 1_000;

/// What one looks for first in a destination.
const FIRST: [&str; 6] = ["id", "name", "type", "state", "enabled", "config"];

const PATH: &str = "/observability/destinations";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the destinations of a workspace.
    List {
        /// Id or slug; by default the default workspace.
        #[arg(long, value_name = "WORKSPACE")]
        workspace: Option<String>,
        /// With --json: skip so many; a page has at most 100.
        #[arg(long, value_name = "N", default_value_t = 0, requires = "json")]
        offset: usize,
        #[command(flatten)]
        connection: Connection,
    },
    /// Show one destination, secrets masked.
    Show(One),
    /// Create destinations, described by flags or by a file in the form of the config file.
    Create {
        /// Kind, like `langfuse` or `otel-collector`.
        #[arg(long = "type", value_name = "KIND")]
        kind: Option<String>,
        /// Id or slug; by default the default workspace.
        #[arg(long, value_name = "WORKSPACE")]
        workspace: Option<String>,
        #[command(flatten)]
        settings: Settings,
        /// Test the connection first and create only what passes.
        #[arg(long)]
        test: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Change what is given and keep the rest.
    Update {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        settings: Settings,
        /// Set this field of the config back to nothing; repeatable.
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        /// Test the connection first and change nothing if it fails.
        #[arg(long)]
        test: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a destination and give up what it has not delivered.
    Delete(One),
    /// Test the connection; exit code 1 if it does not work.
    Test(One),
    /// Stop delivering; events are kept meanwhile.
    Pause(One),
    /// Deliver again, at once.
    Resume(One),
    /// List what the destination refused for good, show one of it (--id), or remove it (--delete).
    DeadLetters(letters::Letters),
    /// Send dead letters again, with the present configuration.
    Replay(letters::Replay),
    /// Send again what the log still holds from a time on.
    Backfill(letters::Backfill),
}

#[derive(Debug, clap::Args)]
struct Target {
    /// Id, or a name that only one destination has.
    #[arg(value_name = "DESTINATION")]
    reference: String,
    /// Look the name up in this workspace only (id or slug).
    #[arg(long, value_name = "WORKSPACE")]
    workspace: Option<String>,
}

#[derive(Debug, clap::Args)]
struct One {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(args: Args) -> Exit {
    match args.action {
        Action::List { workspace, offset, connection } => {
            connection.run(async |admin| list(&admin, workspace.as_deref(), offset, connection.json).await)
        }
        Action::Show(One { target, connection }) => connection.run(async |admin| {
            let answer = admin.get(&target.path(&admin).await?, &[]).await?;
            finish(&answer, connection.json, |body| fields(&body["data"], &FIRST));
            Ok(Exit::Fine)
        }),
        Action::Create { kind, workspace, settings, test, connection } => connection.run(async |admin| {
            let descriptions = settings.create_bodies(kind.as_deref(), workspace.as_deref())?;
            create(&admin, descriptions, test, connection.json).await
        }),
        Action::Update { target, settings, unset, test, connection } => connection.run(async |admin| {
            let description = settings.update_body(&unset)?;
            let path = target.path(&admin).await?;
            let answer = description.patch(&admin, &path, test).await?;
            finish(&answer, connection.json, |body| fields(&body["data"], &FIRST));
            Ok(Exit::Fine)
        }),
        Action::Delete(One { target, connection }) => connection.run(async |admin| {
            let path = target.path(&admin).await?;
            let answer = admin.call(Method::DELETE, &path, &[], None).await?;
            if connection.json {
                print_body(&answer.text);
            } else {
                say(&visible(&format!("deleted {}", target.reference)));
            }
            Ok(Exit::Fine)
        }),
        Action::Test(One { target, connection }) => {
            connection.run(async |admin| test(&admin, &target, connection.json).await)
        }
        Action::Pause(one) => switch(one, "pause"),
        Action::Resume(one) => switch(one, "resume"),
        Action::DeadLetters(letters) => letters.run(),
        Action::Replay(replay) => replay.run(),
        Action::Backfill(backfill) => backfill.run(),
    }
}

async fn list(admin: &Admin, workspace: Option<&str>, offset: usize, json: bool) -> Result<Exit, Failure> {
    let limit = LIST_PAGE.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(workspace.map(|workspace| ("workspace_id", workspace)));
    if json {
        let from = offset.to_string();
        query.push(("offset", &from));
        let answer = admin.get(PATH, &query).await?;
        print_body(&answer.text);
        let shown = offset + answer.body["data"].as_array().map_or(0, Vec::len);
        if let Some(total) = answer.body["total_count"].as_u64().filter(|total| *total > shown as u64) {
            say(&format!("{total} in all: the next page starts at --offset {shown}"));
        }
        return Ok(Exit::Fine);
    }
    let destinations = admin.all(PATH, &query, LIST_PAGE, "/data").await?;
    if destinations.is_empty() {
        say("no destination");
    } else {
        print(&table(&destinations));
    }
    Ok(Exit::Fine)
}

fn table(destinations: &[Json]) -> String {
    let heading = ["ID", "TYPE", "NAME", "STATE", "ENABLED", "SAMPLING", "PRIVACY", "MANAGED BY"];
    let mut table = Table::new(&heading, &[5]);
    for destination in destinations {
        let keys = ["id", "type", "name", "state", "enabled", "sampling_rate", "privacy_mode", "managed_by"];
        table.row(keys.map(|key| cell(&destination[key])));
    }
    table.text()
}

async fn create(
    admin: &Admin,
    descriptions: Vec<Description>,
    test: bool,
    json: bool,
) -> Result<Exit, Failure> {
    let total = descriptions.len();
    for (n, description) in descriptions.iter().enumerate() {
        match description.send(admin, Method::POST, PATH, test).await {
            Ok(answer) => finish(&answer, json, |body| {
                let gap = if n > 0 { "\n" } else { "" };
                format!("{gap}{}", fields(&body["data"], &FIRST))
            }),
            Err(failure) => {
                if total > 1 {
                    say(&format!("stopped at destination {} of {total}; {n} were created", n + 1));
                }
                return Err(failure);
            }
        }
    }
    Ok(Exit::Fine)
}

async fn test(admin: &Admin, target: &Target, json: bool) -> Result<Exit, Failure> {
    let path = format!("{}/test", target.path(admin).await?);
    let answer = admin.call(Method::POST, &path, &[], None).await?;
    finish(&answer, json, |body| outcome(&body["data"]));
    Ok(if answer.body["data"]["ok"] == true { Exit::Fine } else { Exit::No })
}

/// The outcome of a connection test.
pub(super) fn outcome(test: &Json) -> String {
    let mut table = Table::pairs();
    for key in ["ok", "diagnosis", "status", "url", "latency_ms", "hint"] {
        if !test[key].is_null() || key == "ok" {
            table.row([key.to_owned(), cell(&test[key])]);
        }
    }
    table.text()
}

fn switch(one: One, verb: &str) -> Exit {
    let One { target, connection } = one;
    connection.run(async |admin| {
        let path = format!("{}/{verb}", target.path(&admin).await?);
        let answer = admin.call(Method::POST, &path, &[], None).await?;
        finish(&answer, connection.json, |body| table(std::slice::from_ref(&body["data"])));
        Ok(Exit::Fine)
    })
}

impl Target {
    async fn path(&self, admin: &Admin) -> Result<String, Failure> {
        let id = find(admin, &self.reference, self.workspace.as_deref()).await?;
        Ok(format!("{PATH}/{id}"))
    }
}

/// The id a reference stands for: itself, or that of the only destination with the name, in all workspaces or
/// in one.
pub(super) async fn find(admin: &Admin, reference: &str, workspace: Option<&str>) -> Result<Uuid, Failure> {
    if let Ok(id) = Uuid::try_parse(reference) {
        return Ok(id);
    }
    let limit = STATS_PAGE.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(workspace.map(|workspace| ("workspace_id", workspace)));
    let all = admin.all("/observability/stats", &query, STATS_PAGE, "/data/destinations").await?;
    let named: Vec<&Json> = all.iter().filter(|d| d["name"] == reference).collect();
    let id = |d: &Json| d["destination_id"].as_str().and_then(|id| Uuid::try_parse(id).ok());
    match named.as_slice() {
        [] => Err(Failure::Usage(format!(
            "no destination is named `{reference}`: `tracecast destination list` shows them"
        ))),
        [one] => {
            id(one).ok_or_else(|| Failure::Internal("the gateway shows a destination without id".into()))
        }
        several => {
            let mut table = Table::pairs();
            for d in several {
                table.row(["destination_id", "type", "workspace_id"].map(|key| cell(&d[key])));
            }
            say(table.text().trim_end());
            let message =
                format!("{} destinations are named `{reference}`: give one of these ids", several.len());
            Err(Failure::Usage(message))
        }
    }
}
