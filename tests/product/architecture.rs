//! The crates may use each other only as the architecture says. A new edge has to be written down here.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value as Json;

/// Crate -> the crates it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("otlp", &[]),
    ("destination", &[]),
    ("telemetry", &[]),
    ("genai", &["otlp"]),
    ("rules", &["otlp", "genai", "destination"]),
    ("log", &["otlp"]),
    ("sinks", &["otlp", "genai", "destination"]),
    ("delivery", &["otlp", "genai", "destination", "log", "sinks"]),
    ("control", &["destination", "rules"]),
    ("ingest", &["otlp", "genai", "destination", "rules", "log"]),
    ("loadkit", &["otlp", "genai"]),
    ("mutate", &[]),
];

/// What the log and delivery may have only by `tracecast_log::world`, so that a simulation decides it.
const BY_THE_SEAM: &[&str] = &[
    "std::fs",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "RandomState",
    "rand::rng()",
    "spawn_blocking",
    "Condvar",
];

#[test]
fn time_chance_threads_and_files_come_by_the_seam() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut directories = vec![root.join("log/src"), root.join("delivery/src")];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                directories.extend((name != "tests").then_some(path));
                continue;
            }
            if ["world.rs", "disk.rs", "tests.rs"].contains(&name.as_str()) {
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("a source");
            let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for (at, line) in product.lines().enumerate() {
                // Delivery's timers are tokio's, which a simulation pauses; a `use` of our own Condvar is the seam.
                let tokios = path.starts_with(root.join("delivery")) && line.contains("Instant::now");
                let hit = BY_THE_SEAM.iter().find(|part| line.contains(**part));
                if let Some(part) =
                    hit.filter(|part| !tokios && (**part != "Condvar" || line.contains("std::sync")))
                {
                    found.push(format!("{}:{}: {part}", path.display(), at + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "use tracecast_log::world instead:\n{}", found.join("\n"));
}

#[test]
fn dependencies_point_one_way() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Json = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let Some(short) = name.strip_prefix("tracecast-") else { continue };
        let mut uses = BTreeSet::new();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let normal = dependency["kind"].is_null();
            let used = dependency["name"].as_str().and_then(|n| n.strip_prefix("tracecast-"));
            uses.extend(used.filter(|_| normal).map(str::to_owned));
        }
        edges.insert(short.to_owned(), uses);
    }
    for (name, allowed) in ALLOWED {
        let uses = edges.remove(*name).unwrap_or_else(|| panic!("there is no crate {name}"));
        for used in uses {
            assert!(allowed.contains(&used.as_str()), "{name} must not use {used}");
        }
    }
    for outside in ["tests", "benches"] {
        edges.remove(outside);
    }
    assert!(edges.is_empty(), "crates without a rule here: {:?}", edges.keys());
}
