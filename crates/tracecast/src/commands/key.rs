//! `tracecast key`: ordinary keys through the admin API, and replacing a lost management key.

use std::path::{Path, PathBuf};

use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value as Json, json};

use super::{Connection, block_on};
use crate::Exit;
use crate::admin::{Admin, Failure};
use crate::output::{Table, cell, finish, print, print_body, say, visible};

/// Page size of the API.
const PAGE: usize = 100;
/// The control plane's store within the data directory.
const STORE_FILE: &str = "control.sqlite";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the keys of a workspace, disabled and expired ones included.
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
    /// Create a key, or register one that exists elsewhere. A created key is shown this once.
    Create {
        /// Name.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Id or slug; by default the default workspace.
        #[arg(long, value_name = "WORKSPACE")]
        workspace: Option<String>,
        /// Register the key in the environment variable ENV (or `file:/path`) instead of making a new one.
        #[arg(long, value_name = "ENV")]
        import: Option<String>,
        /// When it expires, like 2030-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Limit in USD, reported with the key.
        #[arg(long, value_name = "USD")]
        limit: Option<f64>,
        /// When the limit starts anew: daily, weekly, monthly.
        #[arg(long, value_name = "WINDOW")]
        limit_reset: Option<String>,
        /// Which identity its events may state: none, own_workspace, any_workspace.
        #[arg(long, value_name = "SCOPE")]
        can_assert_identity: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a key: nothing can be sent with it any more.
    Delete {
        /// Hash, or a name that only one key of the workspace has.
        #[arg(value_name = "KEY")]
        reference: String,
        /// Id or slug of the workspace in which a name is looked up; by default the default workspace.
        #[arg(long, value_name = "WORKSPACE")]
        workspace: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Replace every stored management key by a new one. The gateway must not run.
    ResetManagement {
        /// The gateway's data directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
}

pub(crate) fn run(args: Args) -> Exit {
    match args.action {
        Action::List { workspace, offset, connection } => {
            connection.run(async |admin| list(&admin, workspace.as_deref(), offset, connection.json).await)
        }
        Action::Create {
            name,
            workspace,
            import,
            expires_at,
            limit,
            limit_reset,
            can_assert_identity,
            connection,
        } => connection.run(async |admin| {
            let mut body = json!({ "name": name });
            let given = [
                ("workspace_id", workspace.map(Json::from)),
                ("expires_at", expires_at.map(Json::from)),
                ("limit", limit.map(Json::from)),
                ("limit_reset", limit_reset.map(Json::from)),
                ("can_assert_identity", can_assert_identity.map(Json::from)),
            ];
            for (key, value) in given {
                if let Some(value) = value {
                    body[key] = value;
                }
            }
            if let Some(reference) = &import {
                let secret = crate::config::secret_text(reference)
                    .map_err(|message| Failure::Usage(format!("--import: {message}")))?;
                body["external"] = json!({ "api_key": secret });
            }
            create(&admin, &body, import.is_none(), connection.json).await
        }),
        Action::Delete { reference, workspace, connection } => connection.run(async |admin| {
            let hash = find(&admin, &reference, workspace.as_deref()).await?;
            let answer = admin.call(Method::DELETE, &format!("/keys/{hash}"), &[], None).await?;
            if connection.json {
                print_body(&answer.text);
            } else {
                say(&visible(&format!("deleted {reference}")));
            }
            Ok(Exit::Fine)
        }),
        Action::ResetManagement { data_dir } => block_on(reset_management(&data_dir)),
    }
}

/// The query for every key of a workspace.
fn everything(workspace: Option<&str>) -> Vec<(&'static str, &str)> {
    let mut query = vec![("include_disabled", "true"), ("include_expired", "true")];
    query.extend(workspace.map(|workspace| ("workspace_id", workspace)));
    query
}

async fn list(admin: &Admin, workspace: Option<&str>, offset: usize, json: bool) -> Result<Exit, Failure> {
    let mut query = everything(workspace);
    if json {
        let from = offset.to_string();
        query.push(("offset", &from));
        let answer = admin.get("/keys", &query).await?;
        print_body(&answer.text);
        if answer.body["data"].as_array().is_some_and(|page| page.len() == PAGE) {
            say(&format!("there may be more: the next page starts at --offset {}", offset + PAGE));
        }
        return Ok(Exit::Fine);
    }
    let keys = admin.all("/keys", &query, PAGE, "/data").await?;
    if keys.is_empty() {
        say("no key");
        return Ok(Exit::Fine);
    }
    let mut table =
        Table::new(&["NAME", "LABEL", "DISABLED", "EXPIRES", "LAST USED", "USAGE USD", "HASH"], &[5]);
    for key in &keys {
        let fields = ["name", "label", "disabled", "expires_at", "last_used_at", "usage", "hash"];
        table.row(fields.map(|field| cell(&key[field])));
    }
    print(&table.text());
    Ok(Exit::Fine)
}

async fn create(admin: &Admin, body: &Json, is_new: bool, json: bool) -> Result<Exit, Failure> {
    let answer = admin.call(Method::POST, "/keys", &[], Some(body)).await?;
    finish(&answer, json, |body| {
        let mut table = Table::pairs();
        for field in ["name", "hash", "workspace_id", "expires_at", "can_assert_identity"] {
            if !body["data"][field].is_null() {
                table.row([field.to_owned(), cell(&body["data"][field])]);
            }
        }
        table.row(["key".to_owned(), cell(&body["key"])]);
        table.text()
    });
    if is_new {
        say("the key is shown this once: keep it where the application finds it");
    }
    Ok(Exit::Fine)
}

/// The hash a reference stands for: itself, or that of the only key with the name.
async fn find(admin: &Admin, reference: &str, workspace: Option<&str>) -> Result<String, Failure> {
    if is_hash(reference) {
        return Ok(reference.to_ascii_lowercase());
    }
    let all = admin.all("/keys", &everything(workspace), PAGE, "/data").await?;
    let named: Vec<&Json> = all.iter().filter(|key| key["name"] == reference).collect();
    match named.as_slice() {
        // The reference is not repeated: it may be the key itself, pasted by mistake.
        [] => Err(Failure::Usage("no key has that name or hash: `tracecast key list` shows them".to_owned())),
        [one] => match one["hash"].as_str().filter(|hash| is_hash(hash)) {
            Some(hash) => Ok(hash.to_owned()),
            None => Err(Failure::Internal("the gateway shows a key without hash".to_owned())),
        },
        several => {
            let mut table = Table::pairs();
            for key in several {
                table.row(["hash", "label", "created_at"].map(|field| cell(&key[field])));
            }
            say(table.text().trim_end());
            Err(Failure::Usage(format!("{} keys have that name: give one of these hashes", several.len())))
        }
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn reset_management(data_dir: &Path) -> Exit {
    if !data_dir.join(STORE_FILE).is_file() {
        // A reset in the wrong place would make a new, empty store there.
        say(&format!(
            "tracecast: {}: no gateway has kept its data here (there is no {STORE_FILE}): give its data_dir",
            data_dir.display()
        ));
        return Exit::Io;
    }
    match tracecast_control::reset_management_key(data_dir).await {
        Ok(key) => {
            print(&format!("export TRACECAST_MANAGEMENT_KEY={}\n", key.expose_secret()));
            say("every earlier management key of this store is void; this one is shown this once");
            Exit::Fine
        }
        Err(error) => {
            say(&format!("tracecast: {error}"));
            match error {
                tracecast_control::Error::Invalid(_) => Exit::Internal,
                _ => Exit::Io,
            }
        }
    }
}
