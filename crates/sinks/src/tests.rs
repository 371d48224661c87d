//! What holds for all kinds: registration. The rest is in `matrix`.

use tracecast_destination::Kind;

use crate::build;
use crate::testing::*;

#[test]
fn every_kind_has_an_adapter_with_bounds() {
    let clients = clients();
    for kind in Kind::ALL {
        let limits = build(&destination_at(kind, "http://h"), &clients).unwrap().limits();
        assert!(limits.spans_max > 0 && limits.bytes_max > 0 && limits.concurrency_max > 0, "{kind:?}");
    }
}

/// The page of a kind is the head of its module.
#[test]
fn every_kind_has_a_page_that_tells_what_a_user_asks() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let readme = std::fs::read_to_string(sources.join("../../../README.md")).unwrap();
    let mut lacking = Vec::new();
    for kind in Kind::ALL {
        let folder = kind.as_str().replace('-', "_");
        let page = std::fs::read_to_string(sources.join(&folder).join("mod.rs")).unwrap();
        for row in ["what to enter", "what arrives", "limits", "privacy", "test"] {
            if !page.contains(&format!("//! | {row} | ")) {
                lacking.push(format!("{kind}: {row}"));
            }
        }
        if !page.contains("//! Contract: ") {
            lacking.push(format!("{kind}: the source of the contract"));
        }
        if !readme.contains(&format!("(crates/sinks/src/{folder}/mod.rs)")) {
            lacking.push(format!("{kind}: a link in the README"));
        }
    }
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}
