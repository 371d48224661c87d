//! Destinations and keys of the config file beside those of the API.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use tracecast_rules::CanAssert;

use super::{
    DESTINATIONS, FakeRuntime, Gateway, MANAGEMENT_KEY, file_destination, file_key, id_of, langfuse, options,
    path_of, text, webhook,
};
use crate::{Control, hex};

const FILE_KEY: &str = "file-key-0123456789-0123456789-abcdef";

async fn states(gateway: &Gateway) -> Vec<(String, String, String)> {
    let list = gateway.ok(DESTINATIONS).await;
    let rows = list["data"].as_array().unwrap().iter();
    rows.map(|d| (text(&d["name"]), text(&d["managed_by"]), text(&d["state"]))).collect()
}

fn row(name: &str, managed_by: &str, state: &str) -> (String, String, String) {
    (name.to_owned(), managed_by.to_owned(), state.to_owned())
}

#[tokio::test]
async fn file_destinations_are_shown_and_read_only() {
    let gateway = Gateway::with(|o| o.file_destinations = vec![file_destination("f", langfuse("f"))]).await;
    assert_eq!(states(&gateway).await, [row("f", "file", "degraded")]);
    let shown = gateway.ok(DESTINATIONS).await["data"][0].clone();
    let path = path_of(&shown);
    assert_eq!(gateway.patch(&path, &json!({ "name": "x" })).await.0, 409);
    assert_eq!(gateway.delete(&path).await.0, 409);
    let (status, paused) = gateway.post(&format!("{path}/pause"), &Json::Null).await;
    assert_eq!((status.as_u16(), &paused["data"]["state"]), (200, &json!("paused")));
    assert_eq!(gateway.post(&format!("{path}/test"), &Json::Null).await.0, 200);
    assert!(gateway.runtime.applied.lock().unwrap().0.contains(&id_of(&shown)));
}

#[tokio::test]
async fn the_limit_of_a_kind_does_not_count_them() {
    let files = (0..6).map(|n| file_destination(&format!("f{n}"), webhook(""))).collect();
    let gateway = Gateway::with(|o| o.file_destinations = files).await;
    for n in 0..5 {
        gateway.created(DESTINATIONS, &webhook(&n.to_string())).await;
    }
    assert_eq!(gateway.post(DESTINATIONS, &webhook("sixth")).await.0, 409);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 11);
}

#[tokio::test]
async fn what_the_file_no_longer_names_is_retired_until_it_returns() {
    let (a, b) = (file_destination("a", langfuse("a")), file_destination("b", webhook("b")));
    let gateway = Gateway::with(|o| o.file_destinations = vec![a.clone(), b.clone()]).await;
    let first = gateway.ok(&format!("{DESTINATIONS}/{}", a.id)).await["data"].clone();

    let gateway = gateway.restart_with(|o| o.file_destinations = vec![b.clone()]).await.unwrap();
    assert_eq!(states(&gateway).await, [row("a", "file", "retired"), row("b", "file", "degraded")]);
    {
        let applied = gateway.runtime.applied.lock().unwrap();
        assert_eq!(applied.0, [b.id].into());
        assert_eq!(applied.1, [a.id].into());
    }
    let path = format!("{DESTINATIONS}/{}", a.id);
    assert_eq!(gateway.patch(&path, &json!({ "name": "x" })).await.0, 409);
    assert_eq!(gateway.post(&format!("{path}/resume"), &Json::Null).await.0, 409);
    assert_eq!(gateway.ok(&format!("{path}/stats")).await["data"]["state"], "retired");

    // It returns as it was.
    gateway.control.reload(vec![a.clone(), b.clone()], Vec::new()).await.unwrap();
    let back = gateway.ok(&path).await["data"].clone();
    assert_eq!(back, first);
    assert_eq!(gateway.runtime.applied.lock().unwrap().0, [a.id, b.id].into());

    // A pause of the user's survives the absence.
    gateway.post(&format!("{path}/pause"), &Json::Null).await;
    gateway.control.reload(vec![b.clone()], Vec::new()).await.unwrap();
    gateway.runtime.paused.lock().unwrap().clear();
    gateway.control.reload(vec![a.clone(), b.clone()], Vec::new()).await.unwrap();
    assert_eq!(*gateway.runtime.paused.lock().unwrap(), [a.id].into());
    assert_eq!(gateway.ok(&path).await["data"]["state"], "paused");

    // Retired again and deleted, it is gone; named once more, it is new.
    gateway.control.reload(vec![b.clone()], Vec::new()).await.unwrap();
    assert_eq!(gateway.delete(&path).await.0, 200);
    assert_eq!(gateway.get(&path).await.0, 404);
    assert!(gateway.runtime.applied.lock().unwrap().1.is_empty());
    let gateway = gateway.restart_with(|o| o.file_destinations = vec![a.clone(), b]).await.unwrap();
    assert_eq!(gateway.ok(&path).await["data"]["state"], "degraded");
}

#[tokio::test]
async fn an_edited_entry_keeps_its_id_and_birth() {
    let old = file_destination("f", webhook("f"));
    let gateway = Gateway::with(|o| o.file_destinations = vec![old.clone()]).await;
    let before = gateway.ok(DESTINATIONS).await["data"][0].clone();
    let generation = gateway.snapshot().generation;
    gateway.control.reload(vec![old], Vec::new()).await.unwrap();
    assert_eq!(gateway.snapshot().generation, generation, "the same file is no change");

    let mut body = webhook("f");
    body["sampling_rate"] = json!(0.25);
    gateway.control.reload(vec![file_destination("f", body)], Vec::new()).await.unwrap();
    let after = gateway.ok(DESTINATIONS).await["data"][0].clone();
    assert_eq!((&after["id"], &after["created_at"]), (&before["id"], &before["created_at"]));
    assert_eq!(after["sampling_rate"], 0.25);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_every_mistake_is_named() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &webhook("api")).await;
    let generation = gateway.snapshot().generation;
    let mut clash = file_destination("clash", webhook(""));
    clash.id = id_of(&created);
    let mut homeless = file_destination("homeless", webhook(""));
    homeless.workspace_id = uuid::Uuid::from_u128(7);
    let twice = file_destination("twice", webhook(""));
    let mut stray_key = file_key("stray", FILE_KEY);
    stray_key.workspace = Some("nowhere".to_owned());
    let error = gateway
        .control
        .reload(
            vec![clash, homeless, twice.clone(), twice],
            vec![stray_key, file_key("management", MANAGEMENT_KEY)],
        )
        .await
        .unwrap_err()
        .to_string();
    for part in [
        "`clash`",
        "created through the API",
        "`homeless`",
        "no workspace",
        "`twice`",
        "used twice",
        "`stray`",
        "`nowhere`",
        "`management`",
        "never ingest",
    ] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(gateway.snapshot().generation, generation);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 1);
}

#[tokio::test]
async fn a_start_with_a_bad_file_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let twice = file_destination("twice", webhook(""));
    let mut bad = options(dir.path());
    bad.management_key = None;
    bad.file_destinations = vec![twice.clone(), twice];
    Control::open(bad, Arc::new(FakeRuntime::default())).await.unwrap_err();
    let mut good = options(dir.path());
    good.management_key = None;
    let opened = Control::open(good, Arc::new(FakeRuntime::default())).await.unwrap();
    assert!(opened.generated_management_key.is_some(), "the key was not spent on the failed start");
    assert!(opened.control.model().destinations.is_empty());
}

#[tokio::test]
async fn file_keys_ingest_and_are_read_only() {
    let mut key = file_key("edge", FILE_KEY);
    key.can_assert = CanAssert::OwnWorkspace;
    key.workspace = Some("default".to_owned());
    let gateway = Gateway::with(|o| o.file_keys = vec![key]).await;
    let hash = hex::sha256(FILE_KEY);
    let live = gateway.snapshot().keys[&hash].clone();
    assert_eq!((live.name.as_str(), live.can_assert), ("edge", CanAssert::OwnWorkspace));
    let shown = gateway.ok("/api/v1/keys").await["data"][0].clone();
    assert_eq!((&shown["name"], &shown["managed_by"]), (&json!("edge"), &json!("file")));
    assert_eq!(shown["can_assert_identity"], "own_workspace");
    assert!(!shown.to_string().contains(FILE_KEY));
    let path = format!("/api/v1/keys/{}", hex::encode(&hash));
    assert_eq!(gateway.patch(&path, &json!({ "name": "x" })).await.0, 409);
    assert_eq!(gateway.delete(&path).await.0, 409);
    assert_eq!(gateway.call_as(Some(FILE_KEY), "GET", "/api/v1/key", None).await.0, 200);

    let gateway = gateway.restart_with(|o| o.file_keys = vec![file_key("renamed", FILE_KEY)]).await.unwrap();
    let after = gateway.ok("/api/v1/keys").await["data"][0].clone();
    assert_eq!((&after["id"], &after["created_at"]), (&shown["id"], &shown["created_at"]));
    assert_eq!(after["name"], "renamed");
    gateway.control.reload(Vec::new(), Vec::new()).await.unwrap();
    assert!(gateway.snapshot().keys.is_empty());
}
