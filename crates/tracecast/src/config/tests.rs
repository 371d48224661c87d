//! The config file: what is accepted, and that every mistake is told with its line.

mod schema;

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tracecast_destination::{DEFAULT_WORKSPACE_ID, FilterValue, ManagedBy};
use tracecast_ingest::Auth;
use tracecast_log::{Durability, OnFull};
use tracecast_rules::CanAssert;
use uuid::Uuid;

use super::forms::{bytes, duration};
use super::*;

const RESEARCH: Uuid = Uuid::from_u128(0x51);

#[derive(Default)]
struct Fixed {
    env: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
    /// How often the workspaces were asked for.
    asked: Cell<u32>,
}

impl Sources for Fixed {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).map(|v| (*v).to_owned())
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        let name = path.to_str().unwrap();
        self.files.get(name).map(|v| (*v).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn workspaces(&self, data_dir: &Path) -> Result<HashMap<String, Uuid>, String> {
        assert_eq!(data_dir, Path::new("./tracecast-data"));
        self.asked.set(self.asked.get() + 1);
        Ok([("research".to_owned(), RESEARCH)].into())
    }
}

fn with(text: &str, sources: &Fixed) -> Result<Config, Mistakes> {
    build(text, None, Vec::new(), None, sources)
}

fn fine(text: &str) -> Config {
    with(text, &Fixed::default()).unwrap_or_else(|m| panic!("{m}"))
}

/// Line, path and message of every mistake.
fn mistakes(text: &str, sources: &Fixed) -> Vec<(u64, String, String)> {
    let found = with(text, sources).err().unwrap_or_default();
    found
        .list()
        .iter()
        .map(|m| {
            let line = match &m.origin {
                Some(Origin::File { line, .. }) => *line,
                _ => 0,
            };
            (line, m.path.clone(), m.message.clone())
        })
        .collect()
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "# nothing\n", "---\n"] {
        let config = fine(text);
        assert_eq!(config.ingest_http, "127.0.0.1:4318".parse().unwrap());
        assert_eq!(config.ingest_grpc, "127.0.0.1:4317".parse().unwrap());
        assert_eq!(config.admin, "127.0.0.1:4320".parse().unwrap());
        assert_eq!(config.durability, Durability::Durable);
        assert_eq!(config.log_max_bytes, 10 << 30);
        assert_eq!(config.log_on_full, OnFull::DropOldest);
        assert_eq!(config.auth, Auth::Keys);
        assert!(config.destinations.is_empty());
    }
}

#[test]
fn the_example_of_the_design_is_read() {
    let text = r#"
ingest:    { http: 127.0.0.1:4318, grpc: 127.0.0.1:4317, auth: keys, region: global }
admin:     { listen: 127.0.0.1:4320 }
data_dir:  ./tracecast-data
log:       { durability: buffered, max_bytes: 1GiB, max_age: 12h, retain: 6h, on_full: drop_newest }
limits:    { body_bytes: 20MiB, inflated_body_bytes: 64MiB, memory_bytes: auto }
outbound:  { deny_private_addresses: false, allow: [] }
destinations:
  - name: Production Langfuse
    type: langfuse
    config: { publicKey: "${LANGFUSE_PUBLIC_KEY}", secretKey: "${LANGFUSE_SECRET_KEY}" }
    sampling_rate: 0.25
    privacy_mode: true
"#;
    let sources = Fixed {
        env: [("LANGFUSE_PUBLIC_KEY", "pk-lf-1"), ("LANGFUSE_SECRET_KEY", "sk-lf-2")].into(),
        ..Fixed::default()
    };
    let config = with(text, &sources).unwrap_or_else(|m| panic!("{m}"));
    assert_eq!(config.durability, Durability::Buffered);
    assert_eq!(config.log_max_bytes, 1 << 30);
    assert_eq!(config.log_max_age, Duration::from_secs(12 * 3600));
    assert_eq!(config.log_on_full, OnFull::DropNewest);
    assert_eq!(config.log_retain, Duration::from_secs(6 * 3600));
    let [destination] = &config.destinations[..] else { panic!("one destination") };
    assert_eq!(destination.name, "Production Langfuse");
    assert_eq!(destination.sampling_rate, 0.25);
    assert!(destination.privacy_mode);
    assert_eq!(destination.managed_by, ManagedBy::File);
    let again = with(text, &sources).unwrap_or_else(|m| panic!("{m}"));
    assert_eq!(destination.id, again.destinations[0].id, "the id is derived, not drawn");
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = "\
ingest:
  htttp: 127.0.0.1:4318
  grpc: nowhere
  auth: maybe
log: { durability: sometimes, max_bytes: 12 potatoes, on_full: block }
nonsense: 1
destinations:
  - name: no type
    config: {}
  - type: webhook
    name: bad url
    sampling_rate: 7
    config: { url: 'not a url' }
";
    let found = mistakes(text, &Fixed::default());
    let at = |line: u64, path: &str| found.iter().any(|(l, p, _)| *l == line && p == path);
    assert!(at(2, "ingest.htttp"), "{found:?}");
    assert!(at(3, "ingest.grpc"), "{found:?}");
    assert!(at(4, "ingest.auth"), "{found:?}");
    assert!(at(5, "log.durability"), "{found:?}");
    assert!(at(5, "log.max_bytes"), "{found:?}");
    assert!(at(5, "log.on_full"), "{found:?}");
    assert!(at(6, "nonsense"), "{found:?}");
    assert!(found.iter().any(|(l, p, _)| *l == 8 && p.starts_with("destinations[0]")), "{found:?}");
    assert!(at(12, "destinations[1].sampling_rate"), "{found:?}");
    assert!(at(13, "destinations[1].config.url"), "{found:?}");
}

#[test]
fn a_typo_gets_a_suggestion() {
    let error = with("ingest: { htttp: 127.0.0.1:1 }", &Fixed::default()).unwrap_err().to_string();
    assert!(error.contains("did you mean `http`?"), "{error}");
    let error = with(
        "destinations: [{ type: webhook, name: a, privacy_mod: true, config: { url: 'http://x/' } }]",
        &Fixed::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("did you mean `privacy_mode`?"), "{error}");
}

#[test]
fn broken_yaml_names_its_line() {
    let found = mistakes("ingest:\n  http: [unclosed\n", &Fixed::default());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].0 >= 2, "{found:?}");
}

#[test]
fn substitution_and_its_negative_cases() {
    let sources = Fixed {
        env: [
            ("SET", "value"),
            ("EMPTY", ""),
            ("RATE", "0.5"),
            ("FLAG", "true"),
            ("PORT", "9"),
            ("YAML", "a: #b"),
        ]
        .into(),
        files: [("/run/secrets/x", "from-file\n")].into(),
        ..Fixed::default()
    };
    let one = |yaml_value: &str| {
        with(&format!("data_dir: {yaml_value}"), &sources).map(|c| c.data_dir.display().to_string())
    };
    let table: [(&str, Result<&str, &str>); 14] = [
        ("'${SET}'", Ok("value")),
        ("'a-${SET}-b-${SET}'", Ok("a-value-b-value")),
        ("'${UNSET:-default}'", Ok("default")),
        ("'${EMPTY:-default}'", Ok("default")),
        ("'${SET:-default}'", Ok("value")),
        ("'${file:/run/secrets/x}'", Ok("from-file")),
        ("'${YAML}'", Ok("a: #b")),
        ("'$${SET}'", Ok("${SET}")),
        ("'^a$'", Ok("^a$")),
        ("'${UNSET}'", Err("UNSET is not set")),
        ("'${SET'", Err("no closing")),
        ("'${A:-${B}}'", Err("cannot be nested")),
        ("'${not a name}'", Err("does not name an environment variable")),
        ("'${file:/no/such}'", Err("cannot read the file /no/such")),
    ];
    for (value, expected) in table {
        match (one(value), expected) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{value}"),
            (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{value}: {got}"),
            (got, want) => panic!("{value}: {got:?}, wanted {want:?}"),
        }
    }
}

#[test]
fn a_scalar_that_is_one_reference_takes_the_fields_type() {
    let sources = Fixed {
        env: [("RATE", "0.5"), ("FLAG", "true"), ("NUMERIC_SECRET", "123456")].into(),
        ..Fixed::default()
    };
    let text = "destinations: [{ type: langfuse, name: a, sampling_rate: '${RATE}', privacy_mode: '${FLAG}', \
                config: { publicKey: '${NUMERIC_SECRET}', secretKey: s } }]";
    let config = with(text, &sources).unwrap_or_else(|m| panic!("{m}"));
    assert_eq!(config.destinations[0].sampling_rate, 0.5);
    assert!(config.destinations[0].privacy_mode);
}

#[test]
fn the_value_of_a_filter_takes_the_type_of_what_it_is_compared_with() {
    let sources = Fixed { env: [("COST", "0.5"), ("USER", "42")].into(), ..Fixed::default() };
    let text = "destinations: [{ type: webhook, name: a, config: { url: 'http://h/' }, filter_rules: { groups: [{ rules: [\
                { field: total_cost, operator: gt, value: '${COST}' }, \
                { field: user_id, operator: equals, value: '${USER}' }] }] } }]";
    let config = with(text, &sources).unwrap_or_else(|m| panic!("{m}"));
    let rules = &config.destinations[0].filter_rules.as_ref().unwrap().groups[0].rules;
    assert_eq!(rules[0].value, Some(FilterValue::Number(0.5)));
    assert_eq!(rules[1].value, Some(FilterValue::Text("42".into())));
}

#[test]
fn a_secret_never_shows_in_a_mistake() {
    let sources = Fixed { env: [("SECRET", "canary-7431")].into(), ..Fixed::default() };
    let text = "destinations: [{ type: langfuse, name: a, sampling_rate: 9, \
                config: { publicKey: '${SECRET}', secretKey: '${SECRET}', baseUrl: 'nonsense' } }]";
    let error = with(text, &sources).unwrap_err().to_string();
    assert!(error.contains("sampling_rate"), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn overrides_win_over_the_file_and_unknown_ones_are_mistakes() {
    let env =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let good = env(&[("TRACECAST__INGEST__HTTP", "127.0.0.1:9"), ("TRACECAST__LOG__MAX_BYTES", "1GiB")]);
    let config = build("ingest: { http: 127.0.0.1:8 }", None, good, None, &Fixed::default())
        .unwrap_or_else(|m| panic!("{m}"));
    assert_eq!(config.ingest_http.port(), 9);
    assert_eq!(config.log_max_bytes, 1 << 30);
    let bad = env(&[
        ("TRACECAST__INGEST__HTPP", "x"),
        ("TRACECAST__NOPE", "x"),
        ("TRACECAST__DESTINATIONS__0", "x"),
    ]);
    let error = build("", None, bad, None, &Fixed::default()).unwrap_err();
    assert_eq!(error.len(), 3, "{error}");
}

#[test]
fn auth_none_only_on_loopback() {
    assert_eq!(fine("ingest: { auth: none }").auth, Auth::None);
    let found = mistakes("ingest: { auth: none, http: 0.0.0.0:4318 }", &Fixed::default());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, "ingest.auth");
}

#[test]
fn keys_are_hashed_and_checked() {
    let config =
        fine("ingest: { keys: [{ name: a, key: secret-of-a, can_assert_identity: own_workspace }] }");
    let expected: [u8; 32] = Sha256::digest(b"secret-of-a").into();
    assert_eq!(config.keys[0].sha256, expected);
    assert_eq!(config.keys[0].can_assert, CanAssert::OwnWorkspace);
    let found =
        mistakes("ingest: { keys: [{ key: x }, { name: b }, { name: c, sha256: zz }] }", &Fixed::default());
    let paths: Vec<_> = found.iter().map(|(_, p, _)| p.as_str()).collect();
    assert!(paths.contains(&"ingest.keys[0].name"), "{paths:?}");
    assert!(paths.contains(&"ingest.keys[1]"), "{paths:?}");
    assert!(paths.contains(&"ingest.keys[2].sha256"), "{paths:?}");
}

#[test]
fn the_same_destination_twice_is_a_mistake() {
    let one = "{ type: webhook, name: a, config: { url: 'http://127.0.0.1:1/' } }";
    let found = mistakes(&format!("destinations: [{one}, {one}]"), &Fixed::default());
    assert!(
        found.iter().any(|(_, p, m)| p == "destinations[1]" && m.contains("destinations[0]")),
        "{found:?}"
    );
}

#[test]
fn a_workspace_is_named_by_uuid_or_slug() {
    let text = |w: &str| {
        format!(
            "destinations: [{{ type: webhook, name: a, workspace_id: '{w}', config: {{ url: 'http://127.0.0.1:1/' }} }}]"
        )
    };
    assert_eq!(fine(&text("research")).destinations[0].workspace_id, RESEARCH);
    assert_eq!(fine(&text(&RESEARCH.to_string())).destinations[0].workspace_id, RESEARCH);
    assert_eq!(fine(&text("default")).destinations[0].workspace_id, DEFAULT_WORKSPACE_ID);
    let found = mistakes(&text("reserch"), &Fixed::default());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, "destinations[0].workspace_id");
    assert!(found[0].2.contains("reserch"), "{found:?}");
}

#[test]
fn the_store_is_asked_for_its_workspaces_once_and_not_for_each_destination() {
    let mut text = "destinations:\n".to_owned();
    for n in 0..200 {
        text += &format!(
            "  - {{ type: webhook, name: 'n {n}', workspace_id: research, config: {{ url: 'http://h/' }} }}\n"
        );
    }
    let sources = Fixed::default();
    let config = with(&text, &sources).unwrap_or_else(|m| panic!("{m}"));
    assert_eq!(config.destinations.len(), 200);
    assert_eq!(sources.asked.get(), 1);
}

#[test]
fn what_needs_a_restart_is_named() {
    let before = fine("");
    assert!(before.restart_needed(&fine("")).is_empty());
    let settings = [
        ("ingest.http", "ingest: { http: 127.0.0.1:9 }"),
        ("ingest.auth", "ingest: { auth: none }"),
        ("ingest.region", "ingest: { region: us }"),
        ("ingest.media", "ingest: { media: keep }"),
        ("ingest.service_name", "ingest: { service_name: x }"),
        ("admin.listen", "admin: { listen: 127.0.0.1:9 }"),
        ("data_dir", "data_dir: elsewhere"),
        ("log.durability", "log: { durability: memory }"),
        ("log.max_bytes", "log: { max_bytes: 1GiB }"),
        ("log.max_age", "log: { max_age: 1h }"),
        ("log.on_full", "log: { on_full: drop_newest }"),
        ("log.retain", "log: { retain: 1h }"),
        ("limits.body_bytes", "limits: { body_bytes: 1MiB }"),
        ("limits.workspace_bytes_per_second", "limits: { workspace_bytes_per_second: 10MiB }"),
        ("limits.workspace_connections", "limits: { workspace_connections: 10 }"),
        ("limits.memory_bytes", "limits: { memory_bytes: 64MiB }"),
        ("limits.destinations_per_kind", "limits: { destinations_per_kind: 6 }"),
        ("outbound", "outbound: { deny_private_addresses: true }"),
        ("telemetry.otlp", "telemetry: { otlp: 'http://127.0.0.1:9' }"),
    ];
    for (name, text) in settings {
        assert_eq!(before.restart_needed(&fine(text)), [name]);
    }
    // Taken over while it runs.
    let more = "ingest: { keys: [{ name: a, key: k }] }\noperations: { destination: a }\ndestinations: [{ type: webhook, name: a, config: { url: 'http://h/' } }]";
    assert!(before.restart_needed(&fine(more)).is_empty());
}

#[test]
fn the_rate_of_a_workspace_is_off_unless_it_is_set() {
    let rate = |text: &str| fine(text).workspace_bytes_per_second.map(u64::from);
    assert_eq!(rate(""), None);
    assert_eq!(rate("limits: { workspace_bytes_per_second: 0 }"), None);
    assert_eq!(rate("limits: { workspace_bytes_per_second: 10MiB }"), Some(10 << 20));
    let mistakes = with("limits: { workspace_bytes_per_second: 10 }", &Fixed::default()).unwrap_err();
    assert!(mistakes.to_string().contains("at least 1KiB"), "{mistakes}");
}

#[test]
fn the_connections_of_a_workspace_are_bounded_unless_that_is_switched_off() {
    let most = |text: &str| fine(text).workspace_connections.map(usize::from);
    assert_eq!(most(""), Some(8192));
    assert_eq!(most("limits: { workspace_connections: 0 }"), None);
    assert_eq!(most("limits: { workspace_connections: 10 }"), Some(10));
    let mistakes = with("limits: { workspace_connections: many }", &Fixed::default()).unwrap_err();
    assert!(mistakes.to_string().contains("`many` is not a whole number"), "{mistakes}");
}

#[test]
fn sizes_and_durations() {
    for (text, want) in
        [("0", 0), ("1048576", 1 << 20), ("1MiB", 1 << 20), ("1.5 GiB", 3 << 29), ("2MB", 2_000_000)]
    {
        assert_eq!(bytes(text), Ok(want), "{text}");
    }
    for text in ["", "MiB", "-1", "1 parsec", "1e999", "99999999TiB"] {
        assert!(bytes(text).is_err(), "{text}");
    }
    for (text, want) in
        [("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("1.5h", 5_400_000), ("7d", 604_800_000)]
    {
        assert_eq!(duration(text), Ok(Duration::from_millis(want)), "{text}");
    }
    for text in ["", "5", "h", "-1s", "1y"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn mutated_files_are_read_or_refused_and_nothing_of_a_secret_is_said() {
    const SECRET: &str = "canary-5c1f-secret";
    let sources = Fixed {
        env: HashMap::from([("SECRET", SECRET)]),
        files: HashMap::from([("/run/secrets/s3", SECRET)]),
        ..Fixed::default()
    };
    let seeds: Vec<Vec<u8>> = tracecast_mutate::corpus("config").into_iter().map(|(_, text)| text).collect();
    let mut read = 0;
    tracecast_mutate::fuzz("config", &seeds, 5_000, |input| {
        // A file that is no UTF-8 is refused before.
        let text = String::from_utf8_lossy(input);
        match with(&text, &sources) {
            Ok(config) => {
                read += 1;
                assert!(!format!("{:?}", config.destinations).contains(SECRET));
            }
            Err(mistakes) => {
                assert!(mistakes.len() > 0);
                assert!(!mistakes.to_string().contains(SECRET), "{mistakes}");
            }
        }
    });
    assert!(read > 30, "only {read} files were read");
}

#[test]
fn nesting_is_bounded_by_itself_and_through_aliases() {
    let lists = |depth: usize| format!("destinations: {}{}\n", "[".repeat(depth), "]".repeat(depth));
    let mut chain = String::from("a0: &a0 []\n");
    for n in 1..200 {
        chain += &format!("a{n}: &a{n} [[[[[*a{}]]]]]\n", n - 1);
    }
    for text in [lists(30), lists(1_000), lists(100_000), chain] {
        let found = with(&text, &Fixed::default()).err().unwrap().to_string();
        assert!(found.contains("nested deeper") || found.contains("limit"), "{found}");
    }
    assert!(with(&lists(20), &Fixed::default()).unwrap_err().to_string().contains("destinations[0]"));
}
