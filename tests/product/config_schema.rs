//! `tracecast config-schema`, held against `tracecast check` by a validator that is not ours.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value as Json, json};
use tracecast_tests::process::Home;

use crate::BINARY;

struct Schema {
    text: Json,
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    /// What the program prints.
    fn of(home: &Home) -> Schema {
        let output = home.command(&["config-schema"]).output().expect("the program can be run");
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        let text: Json = serde_json::from_slice(&output.stdout).expect("the schema is JSON");
        const URL: &str = "https://tracecast.invalid/config.json";
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource(URL, text.clone()).expect("the schema has a place");
        let index = compiler.compile(URL, &mut schemas).expect("the schema is one of draft 2020-12");
        Schema { text, schemas, index }
    }

    /// What is wrong with the file, as an editor would say it.
    fn refusal(&self, yaml: &str) -> Option<String> {
        let file: Json = serde_saphyr::from_str(yaml).expect("the file is YAML");
        self.schemas.validate(&file, self.index).err().map(|error| error.to_string())
    }

    /// The config of a kind.
    fn config(&self, kind: &str) -> &Json {
        let kinds = &self.text["$defs"]["destinations"]["items"]["allOf"];
        let mut kinds = kinds.as_array().expect("the kinds").iter();
        let of_kind = |rule: &&Json| rule["if"]["properties"]["type"]["const"] == kind;
        &kinds.find(of_kind).expect("the kind")["then"]["properties"]["config"]
    }

    fn kinds(&self) -> Vec<&str> {
        let names = &self.text["$defs"]["destinations"]["items"]["properties"]["type"]["anyOf"][0]["enum"];
        names.as_array().expect("the kinds").iter().filter_map(Json::as_str).collect()
    }

    /// A destination of the kind with all it must have.
    fn smallest(&self, kind: &str) -> Json {
        let schema = self.config(kind);
        let mut config = json!({});
        for field in schema["required"].as_array().expect("required fields") {
            let field = field.as_str().expect("a name");
            let form = &schema["properties"][field]["anyOf"][0];
            config[field] = match (&form["enum"][0], form["format"] == "uri") {
                (Json::Null, false) => json!("text"),
                (Json::Null, true) => json!("https://vendor.example"),
                (word, _) => word.clone(),
            };
        }
        // Rules inside and between texts are not in the schema.
        match kind {
            "clickhouse" => config["host"] = json!("https://vendor.example:8443"),
            "sentry" => config["dsn"] = json!("https://key@vendor.example/1"),
            "s3" => {
                config["accessKeyId"] = json!("AKIATESTS");
                config["secretAccessKey"] = json!("secret");
            }
            _ => {}
        }
        json!({ "type": kind, "name": kind, "config": config })
    }
}

/// What `check` says of the file, if it is not fine.
fn checked(home: &Home, yaml: &str) -> Option<String> {
    std::fs::write(home.path().join("under-check.yaml"), yaml).expect("a file");
    let mut command = home.command(&["check", "--config", "under-check.yaml"]);
    let output = command.env("SET", "0.5").env("FLAG", "true").output().expect("the program can be run");
    match output.status.code() {
        Some(0) => None,
        Some(64) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        other => panic!("{other:?}: {yaml}"),
    }
}

#[test]
fn the_example_files_are_valid_by_the_schema() {
    let schema = Schema::of(&Home::new(BINARY));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the config folder") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(schema.refusal(&text), None, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3, "{seen} example files");
}

#[test]
fn both_accept_what_is_right() {
    let home = Home::new(BINARY);
    let schema = Schema::of(&home);
    let destination = "type: webhook, config: { url: 'https://h.example/' }";
    let files = [
        "",
        "ingest:\nlog: {}\ndestinations: []\n",
        "ingest: { http: '127.0.0.1:${PORT:-4318}', region: eu, service_name: 7 }\n",
        "ingest: { keys: [{ name: a, key: k, can_assert_identity: own_workspace }] }\n",
        "log: { max_bytes: 1073741824, max_age: 1.5d, retain: 0, on_full: '${POLICY:-drop_newest}' }\n",
        "limits: { memory_bytes: auto, body_bytes: 1 MB, destinations_per_kind: '${N:-7}' }\n",
        "outbound: { deny_private_addresses: '${FLAG}', allow: [10.0.0.0/8, '${HOST:-h}'] }\n",
        &format!(
            "destinations: [{{ name: a, sampling_rate: '${{SET}}', enabled: '${{FLAG}}', {destination} }}]\n"
        ),
        &format!("destinations: [{{ name: a, retry: null, filter_rules: null, {destination} }}]\n"),
        "destinations: [{ name: a, type: '${KIND:-webhook}', config: { url: '${URL:-https://h.example/}' } }]\n",
    ];
    for text in files {
        assert_eq!(checked(&home, text), None, "{text}");
        // An empty document has nothing that could be validated.
        assert_eq!(schema.refusal(if text.is_empty() { "{}" } else { text }), None, "{text}");
    }
    let all: Vec<Json> = schema.kinds().into_iter().map(|kind| schema.smallest(kind)).collect();
    assert_eq!(all.len(), 17);
    let file = json!({ "destinations": all }).to_string();
    assert_eq!((checked(&home, &file), schema.refusal(&file)), (None, None));
}

#[test]
fn both_refuse_what_is_wrong() {
    let home = Home::new(BINARY);
    let schema = Schema::of(&home);
    let files = [
        "nonsense: 1\n",
        "ingest: { htttp: 127.0.0.1:1 }\n",
        "ingest: { http: nowhere }\n",
        "ingest: { auth: maybe }\n",
        "ingest: { keys: [{ key: k }] }\n",
        "ingest: { keys: [{ name: a }] }\n",
        "ingest: { keys: [{ name: a, key: k, sha256: zz }] }\n",
        "ingest: { keys: { name: a } }\n",
        "admin: 127.0.0.1:4320\n",
        "log: { durability: sometimes }\n",
        "log: { max_bytes: 12 potatoes }\n",
        "log: { max_age: 5 }\n",
        "log: { retain: 1 }\n",
        "limits: { memory_bytes: lots }\n",
        "limits: { destinations_per_kind: -1 }\n",
        "outbound: { deny_private_addresses: maybe }\n",
        "outbound: { allow: [7] }\n",
        "telemetry: { otlp: nowhere }\n",
        "destinations: { type: webhook }\n",
    ];
    let destinations = [
        "type: webhok",
        "privacy_mod: true",
        "privacy_mode: 'x${FLAG}'",
        "sampling_rate: 7",
        "sampling_rate: 'x${SET}'",
        "regions: [mars]",
        "retry: never",
        "rate_limit: { requests_per_second: 1, spans_per_second: 1 }",
        "api_key_hashes: []",
        "filter_rules: { groups: [{ rules: [{ field: colour, operator: exists }] }] }",
        "filter_rules: { rules: [] }",
        "config: { url: nowhere }",
        "config: { url: 'https://h.example/', method: GET }",
        "config: { url: 'https://h.example/', urll: x }",
        "config: { url: 'https://h.example/', headers: { a: 1 } }",
    ];
    let destinations = destinations.map(|wrong| {
        let right = ["type: webhook", "name: a", "config: { url: 'https://h.example/' }"];
        let key = wrong.split(':').next().expect("a key");
        let others: Vec<&str> = right.into_iter().filter(|other| !other.starts_with(key)).collect();
        format!("destinations: [{{ {wrong}, {} }}]\n", others.join(", "))
    });
    for text in files.into_iter().chain(destinations.iter().map(String::as_str)) {
        assert!(checked(&home, text).is_some(), "check accepts {text}");
        assert!(schema.refusal(text).is_some(), "the schema accepts {text}");
    }
}

#[test]
fn each_required_field_of_each_kind_is_missed_by_both() {
    let home = Home::new(BINARY);
    let schema = Schema::of(&home);
    let mut lacking = Vec::new();
    for kind in schema.kinds() {
        for field in schema.config(kind)["required"].as_array().expect("required fields") {
            let field = field.as_str().expect("a name");
            let mut destination = schema.smallest(kind);
            destination["name"] = json!(format!("{kind} {field}"));
            destination["config"].as_object_mut().expect("a config").remove(field);
            let file = json!({ "destinations": [destination] }).to_string();
            assert!(schema.refusal(&file).is_some(), "the schema accepts {file}");
            lacking.push((field, destination));
        }
    }
    assert!(lacking.len() >= 17, "{} fields", lacking.len());
    let all: Vec<&Json> = lacking.iter().map(|(_, destination)| destination).collect();
    let told = checked(&home, &json!({ "destinations": all }).to_string()).expect("mistakes");
    for (at, (field, destination)) in lacking.iter().enumerate() {
        let mistake = format!("destinations[{at}].config.{field}: is required");
        assert!(told.contains(&mistake), "{mistake} ({}) is not in\n{told}", destination["name"]);
    }
}
