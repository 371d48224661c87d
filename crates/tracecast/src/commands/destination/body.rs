//! What `create` and `update` are told, by flags and by file, as bodies of the API.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::admin::{Admin, Answer, Failure};
use crate::config::{self, Entry, Purpose};
use crate::output::say;

/// What can be said of a destination, new or not.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Settings {
    /// Read it from this file, YAML or JSON with ${...} as in the config file; `-` is stdin. Flags win over it.
    #[arg(short = 'f', long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A field of the config, like `endpoint=https://...` or `headers.x-team=web`; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A field of the config whose value is in the environment variable ENV (or `file:/path`); repeatable.
    #[arg(long, value_name = "KEY=ENV")]
    secret: Vec<String>,
    /// Whether it takes new events.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    enabled: Option<bool>,
    /// Whether prompts and answers are withheld.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    privacy: Option<bool>,
    /// Share of the sessions it gets, 0.0001 to 1.
    #[arg(long, value_name = "RATE")]
    sampling_rate: Option<f64>,
    /// Only events sent with this key (its SHA-256), repeatable; `all` is every key.
    #[arg(long, value_name = "HASH")]
    api_key_hash: Vec<String>,
    /// Only events of this region, repeatable: global, europe, us.
    #[arg(long, value_name = "REGION")]
    region: Vec<String>,
    /// At most so much per second: `requests_per_second=10` or `spans_per_second=500`; `none` lifts the limit.
    #[arg(long, value_name = "LIMIT")]
    rate_limit: Option<String>,
    /// When a batch that failed is sent again: `backoff`, or `schedule` (5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h).
    #[arg(long, value_name = "HOW")]
    retry: Option<String>,
    /// Filter rules as JSON; `null` is none.
    #[arg(long, value_name = "JSON")]
    filter_rules: Option<String>,
}

/// A body, and the file it came from, if any. It may hold secrets, so it has no `Debug`.
pub(super) struct Description {
    pub(super) body: Json,
    entry: Option<Entry>,
    /// Flags name single headers, and no file gives the rest of them.
    edits_headers: bool,
}

impl Settings {
    /// One body per destination.
    pub(super) fn create_bodies(
        &self,
        kind: Option<&str>,
        workspace: Option<&str>,
    ) -> Result<Vec<Description>, Failure> {
        let mut descriptions = match &self.file {
            Some(file) => read(file, Purpose::Create)?,
            None => vec![Description::default()],
        };
        let mut flags = Vec::new();
        flags.extend(kind.map(|kind| ("type", Json::from(kind))));
        flags.extend(workspace.map(|workspace| ("workspace_id", Json::from(workspace))));
        if let [one] = descriptions.as_mut_slice() {
            self.apply(&mut one.body)?;
        } else if !self.is_only_file() || kind.is_some() {
            let message = "the file describes several destinations: flags cannot say which one they mean";
            return Err(Failure::Usage(message.to_owned()));
        }
        for description in &mut descriptions {
            for (key, value) in &flags {
                description.body[*key] = value.clone();
            }
        }
        Ok(descriptions)
    }

    /// The one PATCH body. `unset` are fields of the config to clear.
    pub(super) fn update_body(&self, unset: &[String]) -> Result<Description, Failure> {
        let from_file = match &self.file {
            Some(file) => read(file, Purpose::Update)?.pop(),
            None => None,
        };
        let mut description = from_file.unwrap_or_default();
        let is_whole = description.body.pointer("/config/headers").is_some();
        self.apply(&mut description.body)?;
        for key in unset {
            let told = |message| Failure::Usage(format!("--unset {key}: {message}"));
            config::assign(&mut description.body, key, None).map_err(told)?;
        }
        if description.body.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(Failure::Usage("nothing to change: give -f, --set or another flag".to_owned()));
        }
        description.edits_headers = !is_whole && description.body.pointer("/config/headers").is_some();
        if is_whole {
            description.complete_headers(&Json::Null);
        }
        Ok(description)
    }

    fn is_only_file(&self) -> bool {
        let mut body = json!({});
        self.apply(&mut body).is_ok() && body == json!({})
    }

    fn apply(&self, body: &mut Json) -> Result<(), Failure> {
        for text in &self.set {
            let (key, value) = pair("--set", text)?;
            config::assign(body, key, Some(value))
                .map_err(|message| Failure::Usage(format!("--set {key}: {message}")))?;
        }
        for text in &self.secret {
            let (key, reference) = pair("--secret", text)?;
            config::secret_text(reference)
                .and_then(|secret| config::assign(body, key, Some(&secret)))
                .map_err(|message| Failure::Usage(format!("--secret {key}: {message}")))?;
        }
        let mut put = |key: &str, value: Option<Json>| {
            if let Some(value) = value {
                body[key] = value;
            }
        };
        put("name", self.name.clone().map(Json::from));
        put("enabled", self.enabled.map(Json::from));
        put("privacy_mode", self.privacy.map(Json::from));
        put("sampling_rate", self.sampling_rate.map(Json::from));
        let hashes = match self.api_key_hash.as_slice() {
            [] => None,
            [one] if one == "all" => Some(Json::Null),
            hashes => Some(Json::from(hashes)),
        };
        put("api_key_hashes", hashes);
        put("regions", (!self.region.is_empty()).then(|| Json::from(self.region.as_slice())));
        put("rate_limit", self.rate_limit.as_deref().map(rate_limit).transpose()?);
        put("retry", self.retry.clone().map(Json::from));
        if let Some(text) = &self.filter_rules {
            let rules = serde_json::from_str(text)
                .map_err(|error| Failure::Usage(format!("--filter-rules is not JSON: {error}")))?;
            put("filter_rules", Some(rules));
        }
        Ok(())
    }
}

impl Default for Description {
    fn default() -> Description {
        Description { body: json!({}), entry: None, edits_headers: false }
    }
}

impl Description {
    /// Sends the body as a PATCH.
    pub(super) async fn patch(mut self, admin: &Admin, path: &str, test: bool) -> Result<Answer, Failure> {
        if self.edits_headers {
            let shown = admin.get(path, &[]).await?.body;
            self.complete_headers(&shown["data"]["config"]["headers"]);
        }
        self.send(admin, Method::PATCH, path, test).await
    }

    /// A PATCH replaces all headers, so those that stay are repeated as the API shows them: a masked value
    /// stands for the present one. Headers set to nothing go.
    fn complete_headers(&mut self, shown: &Json) {
        let Some(Json::Object(headers)) = self.body.pointer_mut("/config/headers") else { return };
        for (name, value) in shown.as_object().into_iter().flatten() {
            if !headers.keys().any(|given| given.eq_ignore_ascii_case(name)) {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers.retain(|_, value| !value.is_null());
    }

    /// Sends the body. What the gateway finds wrong with it is told with its place in the file.
    pub(super) async fn send(
        &self,
        admin: &Admin,
        method: Method,
        path: &str,
        test: bool,
    ) -> Result<Answer, Failure> {
        let query: &[(&str, &str)] = if test { &[("test", "true")] } else { &[] };
        let mut sent = admin.call(method, path, query, Some(&self.body)).await;
        if let (Err(Failure::Refused(refusal)), Some(entry)) = (&mut sent, &self.entry) {
            for issue in &mut refusal.issues {
                issue.path = format!("{}: {}", entry.place(&issue.path), issue.path);
            }
        }
        if let Err(Failure::Refused(refusal)) = &sent
            && let Some(test) = &refusal.test
        {
            say(super::outcome(test).trim_end());
        }
        sent
    }
}

fn read(file: &Path, purpose: Purpose) -> Result<Vec<Description>, Failure> {
    let is_stdin = file == Path::new("-");
    let mut text = String::new();
    let done = match is_stdin {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    let name = if is_stdin { Path::new("stdin") } else { file };
    done.map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", name.display())))?;
    let entries = config::read_entries(&text, name, purpose).map_err(|mistakes| {
        Failure::Usage(format!("the file is not usable:\n{}", mistakes.to_string().trim_end()))
    })?;
    let description =
        |entry: Entry| Description { body: entry.body.clone(), entry: Some(entry), edits_headers: false };
    Ok(entries.into_iter().map(description).collect())
}

/// The field of a limit; what it may be is the API's business.
fn rate_limit(text: &str) -> Result<Json, Failure> {
    if text == "none" {
        return Ok(Json::Null);
    }
    let (unit, figure) = pair("--rate-limit", text)?;
    let figure: f64 = figure
        .parse()
        .map_err(|_| Failure::Usage(format!("--rate-limit {unit} needs a number, like {unit}=10")))?;
    Ok(json!({ unit: figure }))
}

/// `key=value`; the value may hold more `=`.
fn pair<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        // The text is not repeated: somebody may have put a secret where its name belongs.
        .ok_or_else(|| Failure::Usage(format!("{flag} needs KEY=VALUE, like {flag} endpoint=...")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(arguments: &[&str]) -> Settings {
        Line::try_parse_from([&["x"], arguments].concat()).unwrap().settings
    }

    fn body(arguments: &[&str]) -> Json {
        settings(arguments).update_body(&[]).unwrap().body
    }

    #[test]
    fn flags_become_fields_of_their_types() {
        let given = body(&[
            "--name",
            "n",
            "--set",
            "url=http://h/?a=b",
            "--set",
            "headers.x-team=web",
            "--enabled",
            "false",
            "--privacy",
            "--sampling-rate",
            "0.25",
            "--api-key-hash",
            "aa",
            "--region",
            "us",
            "--region",
            "europe",
            "--rate-limit",
            "spans_per_second=500",
            "--retry",
            "schedule",
            "--filter-rules",
            r#"{"groups":[]}"#,
        ]);
        let expected = json!({
            "name": "n",
            "config": { "url": "http://h/?a=b", "headers": { "x-team": "web" } },
            "enabled": false,
            "privacy_mode": true,
            "sampling_rate": 0.25,
            "api_key_hashes": ["aa"],
            "regions": ["us", "europe"],
            "rate_limit": { "spans_per_second": 500.0 },
            "retry": "schedule",
            "filter_rules": { "groups": [] },
        });
        assert_eq!(given, expected);
    }

    #[test]
    fn what_clears_a_field_is_null() {
        assert_eq!(body(&["--api-key-hash", "all"]), json!({ "api_key_hashes": null }));
        assert_eq!(body(&["--rate-limit", "none"]), json!({ "rate_limit": null }));
        assert_eq!(body(&["--filter-rules", "null"]), json!({ "filter_rules": null }));
        let unset = settings(&[]).update_body(&["region".into()]).unwrap().body;
        assert_eq!(unset, json!({ "config": { "region": null } }));
    }

    #[test]
    fn a_flag_changes_one_header_and_a_file_all() {
        let shown = json!({ "A": "se...et", "b": "1", "c": "2" });
        let mut one = settings(&["--set", "headers.a=new"]).update_body(&["headers.b".into()]).unwrap();
        assert!(one.edits_headers);
        one.complete_headers(&shown);
        assert_eq!(one.body, json!({ "config": { "headers": { "a": "new", "c": "2" } } }));

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.yaml");
        std::fs::write(&file, "config: { headers: { x: 1, y: 2 } }\n").unwrap();
        let all = settings(&["-f", file.to_str().unwrap()]).update_body(&["headers.y".into()]).unwrap();
        assert!(!all.edits_headers);
        assert_eq!(all.body, json!({ "config": { "headers": { "x": 1 } } }));
        assert!(!settings(&["--name", "n"]).update_body(&[]).unwrap().edits_headers);
    }

    #[test]
    fn what_cannot_be_meant_is_usage() {
        for arguments in [
            &["--set", "endpoint"][..],
            &["--set", "=x"],
            &["--secret", "apiKey=TRACECAST_TESTS_NO_SUCH_VARIABLE"],
            &["--secret", "apiKey=not a name"],
            &["--filter-rules", "{"],
            &["--rate-limit", "10"],
            &["--rate-limit", "spans_per_second=many"],
            &["-f", "/no/such/file"],
            &[],
        ] {
            let failure = settings(arguments).update_body(&[]).err().unwrap();
            assert_eq!(failure.exit(), crate::Exit::Usage, "{arguments:?}");
            assert!(!failure.to_string().contains("not a name"), "{failure}");
        }
    }

    #[test]
    fn flags_win_over_the_file_unless_it_has_several() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.yaml");
        let path = file.to_str().unwrap();
        std::fs::write(&file, "type: webhook\nname: a\nconfig: { url: http://a, method: PUT }\n").unwrap();
        let one = settings(&["-f", path, "--set", "url=http://b", "--name", "b"]);
        let bodies = one.create_bodies(None, Some("team")).unwrap();
        let expected = json!({
            "type": "webhook", "name": "b", "workspace_id": "team",
            "config": { "url": "http://b", "method": "PUT" },
        });
        assert_eq!(bodies[0].body, expected);
        std::fs::write(&file, "- { type: webhook, name: a }\n- { type: webhook, name: b }\n").unwrap();
        assert_eq!(settings(&["-f", path]).create_bodies(None, None).unwrap().len(), 2);
        let several = settings(&["-f", path, "--enabled"]).create_bodies(None, None);
        assert_eq!(several.err().unwrap().exit(), crate::Exit::Usage);
    }
}
