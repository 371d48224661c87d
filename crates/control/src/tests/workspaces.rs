//! Workspaces through the API.

use serde_json::{Value as Json, json};
use tracecast_destination::DEFAULT_WORKSPACE_ID;

use super::{DESTINATIONS, Gateway, id_of, message, path_of, text, webhook};

const WORKSPACES: &str = "/api/v1/workspaces";

#[tokio::test]
async fn the_default_workspace_exists_from_the_start() {
    let gateway = Gateway::new().await;
    let list = gateway.ok(WORKSPACES).await;
    assert_eq!(list["total_count"], 1);
    let default = &list["data"][0];
    assert_eq!(default["id"], DEFAULT_WORKSPACE_ID.to_string());
    assert_eq!(default["slug"], "default");
    for (field, value) in [
        ("description", Json::Null),
        ("default_text_model", Json::Null),
        ("default_image_model", Json::Null),
        ("default_provider_sort", Json::Null),
        ("io_logging_api_key_ids", Json::Null),
        ("io_logging_sampling_rate", json!(1.0)),
        ("is_observability_io_logging_enabled", json!(false)),
        ("is_observability_broadcast_enabled", json!(true)),
        ("is_data_discount_logging_enabled", json!(false)),
        ("updated_at", Json::Null),
        ("created_by", Json::Null),
    ] {
        assert_eq!(default.get(field), Some(&value), "{field}");
    }
    assert!(default["default_guardrail_id"].is_string());
    for reference in ["default", &DEFAULT_WORKSPACE_ID.to_string(), "defaul%74"] {
        assert_eq!(gateway.ok(&format!("{WORKSPACES}/{reference}")).await["data"], *default);
    }
}

#[tokio::test]
async fn life_cycle() {
    let gateway = Gateway::new().await;
    let body = json!({ "name": "Production", "slug": "production", "default_provider_sort": "price",
                       "default_text_model": "openai/gpt-4o", "is_observability_broadcast_enabled": false });
    let created = gateway.created(WORKSPACES, &body).await;
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(created[field], *value);
    }
    assert!(gateway.snapshot().workspaces.contains_key(&id_of(&created)));
    let path = format!("{WORKSPACES}/production");
    let (status, updated) = gateway
        .patch(&path, &json!({ "slug": "prod-2", "default_text_model": null, "description": "d" }))
        .await;
    assert_eq!(status, 200, "{updated}");
    let updated = &updated["data"];
    assert_eq!(updated["default_text_model"], Json::Null);
    assert_eq!(updated["name"], "Production");
    assert!(updated["updated_at"].is_string());
    assert_eq!(gateway.get(&path).await.0, 404);
    let path = format!("{WORKSPACES}/prod-2");

    let gateway = gateway.restart().await;
    assert_eq!(gateway.ok(&path).await["data"], *updated);
    let (status, body) = gateway.delete(&path).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "deleted": true })));
    assert_eq!(gateway.get(&path).await.0, 404);
    assert!(!gateway.snapshot().workspaces.contains_key(&id_of(&created)));
    // The slug is free again.
    gateway.created(WORKSPACES, &json!({ "name": "again", "slug": "prod-2" })).await;
}

#[tokio::test]
async fn wrong_values_are_refused() {
    let gateway = Gateway::new().await;
    let long = "x".repeat(501);
    for (field, value) in [
        ("slug", json!("Upper")),
        ("slug", json!("-a")),
        ("slug", json!("a--b")),
        ("slug", json!("")),
        ("slug", json!("a".repeat(51))),
        ("slug", json!("default")),
        ("slug", json!(DEFAULT_WORKSPACE_ID.to_string())),
        ("slug", Json::Null),
        ("name", json!("")),
        ("name", json!("n".repeat(101))),
        ("description", json!(long)),
        ("default_provider_sort", json!("best")),
        ("io_logging_sampling_rate", json!(0)),
        ("io_logging_sampling_rate", Json::Null),
        ("io_logging_api_key_ids", json!(["a"])),
        ("disabled_server_tools", json!([1])),
        ("is_observability_broadcast_enabled", json!("on")),
    ] {
        let mut body = json!({ "name": "W", "slug": "w" });
        body[field] = value.clone();
        let (status, answer) = gateway.post(WORKSPACES, &body).await;
        assert_eq!(status, 400, "{field} = {value}");
        assert_eq!(answer["error"]["metadata"]["issues"][0]["path"], field, "{answer}");
    }
    let (_, answer) = gateway.post(WORKSPACES, &json!({ "description": 1 })).await;
    assert_eq!(answer["error"]["metadata"]["issues"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_broadcast_switch_makes_a_new_plan() {
    let gateway = Gateway::new().await;
    let plan = || std::sync::Arc::clone(&gateway.snapshot().workspaces[&DEFAULT_WORKSPACE_ID]);
    let before = plan();
    let off = json!({ "is_observability_broadcast_enabled": false });
    assert_eq!(gateway.patch(&format!("{WORKSPACES}/default"), &off).await.0, 200);
    assert!(!std::sync::Arc::ptr_eq(&before, &plan()));
}

#[tokio::test]
async fn a_workspace_in_use_is_not_deleted() {
    let gateway = Gateway::new().await;
    let workspace = gateway.created(WORKSPACES, &json!({ "name": "W", "slug": "w" })).await;
    let path = format!("{WORKSPACES}/w");
    let mut hook = webhook("hook");
    hook["workspace_id"] = "w".into();
    let hook = gateway.created(DESTINATIONS, &hook).await;
    assert_eq!(hook["workspace_id"], workspace["id"]);
    let (_, key) =
        gateway.post("/api/v1/keys", &json!({ "name": "k", "workspace_id": workspace["id"] })).await;
    let (status, body) = gateway.delete(&path).await;
    assert_eq!(status, 400);
    assert!(message(&body).contains("active keys"), "{body}");

    let key_path = format!("/api/v1/keys/{}", text(&key["data"]["hash"]));
    gateway.patch(&key_path, &json!({ "disabled": true })).await;
    assert_eq!(gateway.delete(&path).await.0, 200);
    assert_eq!(gateway.get(&path_of(&hook)).await.0, 404);
    assert_eq!(gateway.get(&key_path).await.0, 404);
    assert!(gateway.runtime.applied.lock().unwrap().0.is_empty());
}

#[tokio::test]
async fn the_default_workspace_goes_only_when_confirmed_and_stays_gone() {
    let gateway = Gateway::new().await;
    let path = format!("{WORKSPACES}/default");
    assert_eq!(gateway.delete(&path).await.0, 400);
    let confirmed = format!("{path}?confirm_default_workspace_deletion=true");
    assert_eq!(gateway.delete(&confirmed).await.0, 200);
    let gateway = gateway.restart().await;
    assert_eq!(gateway.ok(WORKSPACES).await["total_count"], 0);
    assert_eq!(gateway.get(DESTINATIONS).await.0, 400);
    assert_eq!(gateway.post(DESTINATIONS, &webhook("hook")).await.0, 400);
    assert_eq!(gateway.post("/api/v1/keys", &json!({ "name": "k" })).await.0, 400);
}
