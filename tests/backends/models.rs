//! The golden bodies of the sinks, which a test of theirs holds to be what is sent, against the models of the vendors'
//! own SDKs (opik, langsmith, braintrust, weave, posthog), the names of theirs (langfuse, OpenInference for arize) and
//! Sentry Relay's normalizer.

use std::path::Path;

use serde_json::json;

use crate::python::{run_json, venv};

#[test]
fn golden_bodies_fit_the_vendors_own_models() {
    let sinks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sinks/src");
    let sinks = sinks.to_str().expect("a path in letters");
    let found = run_json(&venv("models"), "vendor_models.py", &[sinks]);
    // Six spans; Opik has a trace for each of the five scenes beside them, LangSmith the usage of two calls, PostHog its
    // messages and usage. Of the dialects the names that are added, in all scenes.
    let checked = json!({
        "arize": 80, "braintrust": 6, "langfuse": 29, "langsmith": 8, "opik": 11, "posthog": 15, "sentry": 6, "weave": 6,
    });
    assert_eq!(found, json!({ "checked": checked, "wrong": [], "blind": [] }), "{found:#}");
}
