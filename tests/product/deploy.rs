//! What `deploy/` asks of the metrics, held against those that a running gateway has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value as Json, json};
use tracecast_loadkit::sink::{Options, Sink};
use tracecast_tests::process::Home;
use tracecast_tests::spans::{generation, request};

use crate::BINARY;

/// Metric, label, its values.
type Exposed = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Every family that a gateway has when it has delivered something and refused something.
async fn exposed() -> Exposed {
    let home = Home::new(BINARY);
    home.config("");
    let gateway = home.start();
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Options::default()).await.expect("a sink");
    let endpoint = format!("http://{}", sink.address());
    let id = gateway.simple("otel-collector", "collector", json!({ "endpoint": endpoint })).await;
    assert_eq!(gateway.send(request(&[generation(1, "hello")])).await.0, 200);
    assert_eq!(gateway.send(b"no spans".to_vec()).await.0, 400);
    gateway.settled(&id, 1).await;
    let (_, text) = gateway.get_admin("/metrics").await;
    let rejected = "tracecast_events_rejected_total{reason=\"malformed\"} 1";
    assert!(text.lines().any(|line| line == rejected), "{rejected} is missing:\n{text}");
    let mut exposed = Exposed::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a series and its value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let family = exposed.entry(name.to_owned()).or_default();
        for (label, value) in matchers(labels).into_iter().map(|(label, _, value)| (label, value)) {
            family.entry(label).or_default().insert(value);
        }
    }
    exposed
}

/// `label="value"`, `label=~"value"` and the like: label, operator, value.
fn matchers(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut parts = text.split('"');
    while let (Some(before), Some(value)) = (parts.next(), parts.next()) {
        let before = before.trim_start_matches([',', ' ']);
        let (label, operator) = before.split_at(before.find(['=', '!']).unwrap_or(before.len()));
        found.push((label.to_owned(), operator.to_owned(), value.to_owned()));
    }
    found
}

/// What PromQL has of its own, and Grafana's function of a label.
const PROMQL: [&str; 12] = [
    "by",
    "group_left",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "name",
    "offset",
    "on",
    "or",
    "rate",
    "sum",
];
/// Labels that Prometheus gives every series.
const SCRAPED: [&str; 2] = ["instance", "job"];

/// What the expression asks for that is not there.
fn missing(expression: &str, exposed: &Exposed) -> Vec<String> {
    let mut missing = Vec::new();
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let has_label =
        |label: &str| SCRAPED.contains(&label) || exposed.values().any(|labels| labels.contains_key(label));
    let mut rest = expression;
    let mut word = String::new();
    while let Some(next) = rest.chars().next() {
        if is_of_a_name(next) {
            let end = rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len());
            word = rest[..end].to_owned();
            rest = &rest[end..];
            let is_number = word.starts_with(|c: char| c.is_ascii_digit());
            if !is_number && !PROMQL.contains(&word.as_str()) && !exposed.contains_key(&word) {
                missing.push(word.clone());
            }
            continue;
        }
        // What is in brackets belongs to the word before: matchers, a range, the labels of `by`, `on`, `group_left`.
        let lists_labels = next == '(' && ["by", "on", "group_left"].contains(&word.as_str());
        let close = match next {
            '{' => '}',
            '[' => ']',
            '(' if lists_labels => ')',
            _ => {
                rest = &rest[next.len_utf8()..];
                if !next.is_whitespace() {
                    word.clear();
                }
                continue;
            }
        };
        let end = rest.find(close).expect("what is opened is closed");
        let inside = &rest[1..end];
        rest = &rest[end + 1..];
        if lists_labels {
            let labels = inside.split(',').map(str::trim).filter(|label| !label.is_empty());
            missing.extend(labels.filter(|label| !has_label(label)).map(|label| format!("label {label}")));
        }
        if next == '{' {
            for (label, operator, value) in matchers(inside) {
                let Some(values) = exposed.get(&word).and_then(|labels| labels.get(&label)) else {
                    missing.push(format!("{word}{{{label}}}"));
                    continue;
                };
                let wanted = match operator.ends_with('~') {
                    true => value.split('|').collect(),
                    false => vec![value.as_str()],
                };
                // A variable of the dashboard holds what there is.
                let wanted = wanted.into_iter().filter(|value| !value.starts_with('$'));
                let unknown = wanted.filter(|value| !values.contains(*value));
                missing.extend(unknown.map(|value| format!("{word}{{{label}=\"{value}\"}}")));
            }
        }
        word.clear();
    }
    missing
}

/// The labels that a text names, written `{{label}}` or `{{ $labels.label }}`.
fn labels_named(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|part| {
        let inside = part.split("}}").next().unwrap_or_default().trim();
        match inside.strip_prefix('$') {
            Some(variable) => variable.strip_prefix("labels."),
            None => Some(inside),
        }
    })
}

fn texts<'a>(json: &'a Json, key: &str, found: &mut Vec<&'a str>) {
    match json {
        Json::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(text) if name == key => found.push(text),
                    _ => texts(value, key, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        _ => {}
    }
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_ask_only_for_what_there_is() {
    let exposed = exposed().await;
    let alerts: Json = serde_saphyr::from_str(&file("prometheus-alerts.yaml")).expect("YAML");
    let dashboard: Json = serde_json::from_str(&file("grafana-dashboard.json")).expect("JSON");
    let (mut expressions, mut spoken) = (Vec::new(), Vec::new());
    texts(&alerts, "expr", &mut expressions);
    assert!(expressions.len() >= 10, "{} alerts", expressions.len());
    let of_alerts = expressions.len();
    texts(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() - of_alerts >= 15, "{} expressions", expressions.len() - of_alerts);
    texts(&dashboard["templating"], "query", &mut expressions);
    expressions.retain(|expression| *expression != "prometheus");
    for expression in expressions {
        let missing = missing(expression, &exposed);
        assert!(missing.is_empty(), "{missing:?} in {expression}");
    }
    for key in ["summary", "description"] {
        texts(&alerts, key, &mut spoken);
    }
    texts(&dashboard, "legendFormat", &mut spoken);
    for text in spoken {
        for label in labels_named(text) {
            let known = SCRAPED.contains(&label) || exposed.values().any(|labels| labels.contains_key(label));
            assert!(known, "label {label} in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_shown_beside_its_bound() {
    let home = Home::new(BINARY);
    home.config("log: { max_bytes: 256MiB, max_age: 1h }\nlimits: { memory_bytes: 64MiB }\n");
    let gateway = home.start();
    let nowhere = json!({ "url": "http://127.0.0.1:9" });
    gateway.simple("webhook", "nobody listens", nowhere).await;
    assert_eq!(gateway.send(request(&[generation(1, "hello")])).await.0, 200);
    let (_, text) = gateway.get_admin("/metrics").await;
    let figure = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{name} is missing:\n{text}"))
    };
    const MIB: f64 = 1_048_576.0;
    assert_eq!(figure("tracecast_log_max_bytes"), 256.0 * MIB);
    assert_eq!(figure("tracecast_log_max_age_seconds"), 3_600.0);
    assert!(figure("tracecast_memory_max_bytes") <= 64.0 * MIB);
    for part in ["log", "memory"] {
        let [used, max] = ["used", "max"].map(|what| figure(&format!("tracecast_{part}_{what}_bytes")));
        assert!((0.0..max).contains(&used), "{part}: {used} of {max}");
    }
    // The file that holds the span is in use; those made ahead are not.
    let used = figure("tracecast_log_used_bytes");
    assert!(used > 0.0 && used <= figure("tracecast_log_bytes"), "{used}:\n{text}");
}

#[test]
fn what_is_renamed_is_missed() {
    let labels = [("state".to_owned(), BTreeSet::from(["open".to_owned(), "gone".to_owned()]))];
    let exposed = Exposed::from([
        ("tracecast_state".to_owned(), BTreeMap::from(labels)),
        ("tracecast_seconds_bucket".to_owned(), BTreeMap::from([("le".to_owned(), BTreeSet::new())])),
    ]);
    for (expression, expected) in [
        ("sum by (state, job) (rate(tracecast_state{state=~\"open|gone\"}[5m])) > 0.5", ""),
        ("sum(rate(tracecast_states[5m]))", "tracecast_states"),
        ("tracecast_state{status=\"open\"}", "tracecast_state{status}"),
        ("tracecast_state{state!=\"closed\"}", "tracecast_state{state=\"closed\"}"),
        ("tracecast_state * on (job, nam) group_left (state) tracecast_state", "label nam"),
        ("histogram_quantile(0.9, sum by (le) (rate(tracecast_seconds_bucket[$__rate_interval])))", ""),
    ] {
        assert_eq!(missing(expression, &exposed).join(" "), expected, "{expression}");
    }
}
