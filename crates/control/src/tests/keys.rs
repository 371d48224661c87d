//! Keys through the API and in the snapshot.

use serde_json::{Value as Json, json};
use tracecast_destination::DEFAULT_WORKSPACE_ID;
use tracecast_rules::CanAssert;

use super::{Gateway, MANAGEMENT_KEY, message, text};
use crate::hex;

const KEYS: &str = "/api/v1/keys";

async fn create(gateway: &Gateway, body: &Json) -> (Json, String) {
    let (status, answer) = gateway.post(KEYS, body).await;
    assert_eq!(status, 201, "{answer}");
    (answer["data"].clone(), text(&answer["key"]))
}

#[tokio::test]
async fn a_created_key_is_shown_once_and_known_by_its_hash() {
    let gateway = Gateway::new().await;
    let (key, secret) =
        create(&gateway, &json!({ "name": "app", "limit": 100, "limit_reset": "monthly" })).await;
    let digits = secret.strip_prefix("sk-tc-v1-").unwrap();
    assert_eq!(digits.len(), 64);
    assert!(digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert_eq!(key["hash"], hex::encode(&hex::sha256(&secret)));
    assert_eq!(key["label"], format!("{}...{}", &secret[..12], &secret[69..]));
    let mut expected = json!({
        "hash": key["hash"], "name": "app", "label": key["label"], "disabled": false, "updated_at": null,
        "created_at": key["created_at"], "expires_at": null, "last_used_at": null, "creator_user_id": null,
        "workspace_id": DEFAULT_WORKSPACE_ID.to_string(), "limit": 100.0, "limit_remaining": 100.0,
        "limit_reset": "monthly", "include_byok_in_limit": false, "external_user": null,
        "usage": 0.0, "usage_daily": 0.0, "usage_weekly": 0.0, "usage_monthly": 0.0,
        "byok_usage": 0.0, "byok_usage_daily": 0.0, "byok_usage_weekly": 0.0, "byok_usage_monthly": 0.0,
        "can_assert_identity": "none", "managed_by": "api",
    });
    expected["id"] = key["id"].clone();
    assert_eq!(key, expected);
    assert!(key["id"].as_i64().unwrap() > 0);

    let path = format!("{KEYS}/{}", text(&key["hash"]));
    assert_eq!(gateway.ok(&path).await["data"], key);
    let list = gateway.ok(KEYS).await;
    assert_eq!(list, json!({ "data": [key] }));
    assert!(!list.to_string().contains(digits));

    let snapshot = gateway.snapshot();
    let live = &snapshot.keys[&hex::sha256(&secret)];
    assert_eq!((live.name.as_str(), live.workspace_id, live.disabled), ("app", DEFAULT_WORKSPACE_ID, false));
    assert_eq!((live.expires_at, live.can_assert), (None, CanAssert::None));
}

#[tokio::test]
async fn patch_sets_clears_and_keeps() {
    let gateway = Gateway::new().await;
    let (key, secret) = create(&gateway, &json!({ "name": "app", "limit": 5 })).await;
    let path = format!("{KEYS}/{}", text(&key["hash"]));
    let (status, body) = gateway
        .patch(&path, &json!({ "disabled": true, "limit": null, "can_assert_identity": "any_workspace" }))
        .await;
    assert_eq!(status, 200, "{body}");
    let key = &body["data"];
    assert_eq!((key["disabled"].clone(), key["limit"].clone()), (json!(true), Json::Null));
    assert_eq!(key["name"], "app");
    assert!(key["updated_at"].is_string());
    let live = gateway.snapshot().keys[&hex::sha256(&secret)].clone();
    assert!(live.disabled);
    assert_eq!(live.can_assert, CanAssert::AnyWorkspace);

    assert_eq!(gateway.ok(KEYS).await["data"], json!([]));
    for value in ["true", "1"] {
        let with = gateway.ok(&format!("{KEYS}?include_disabled={value}")).await;
        assert_eq!(with["data"].as_array().unwrap().len(), 1);
    }
    // A disabled key cannot even ask about itself.
    assert_eq!(gateway.call_as(Some(&secret), "GET", "/api/v1/key", None).await.0, 401);

    for wrong in [
        json!({ "name": "" }),
        json!({ "limit": -1 }),
        json!({ "limit_reset": "hourly" }),
        json!({ "workspace_id": "nobody" }),
        json!({ "disabled": "yes" }),
    ] {
        assert_eq!(gateway.patch(&path, &wrong).await.0, 400, "{wrong}");
    }
    // What a key cannot be without stays as it is; the limit is cleared.
    let (status, kept) =
        gateway.patch(&path, &json!({ "name": null, "disabled": null, "limit": null })).await;
    assert_eq!(status, 200, "{kept}");
    assert_eq!(
        (&kept["data"]["name"], &kept["data"]["disabled"], &kept["data"]["limit"]),
        (&json!("app"), &json!(true), &Json::Null)
    );
    let nameless = gateway.post(KEYS, &json!({ "name": null })).await;
    assert_eq!(nameless.0, 400);
}

#[tokio::test]
async fn a_key_moves_between_workspaces() {
    let gateway = Gateway::new().await;
    let workspace = gateway.created("/api/v1/workspaces", &json!({ "name": "W", "slug": "w" })).await;
    let (key, secret) = create(&gateway, &json!({ "name": "app" })).await;
    let path = format!("{KEYS}/{}", text(&key["hash"]));
    let (status, moved) = gateway.patch(&path, &json!({ "workspace_id": workspace["id"] })).await;
    assert_eq!(status, 200);
    assert_eq!(moved["data"]["workspace_id"], workspace["id"]);
    assert_eq!(
        gateway.snapshot().keys[&hex::sha256(&secret)].workspace_id.to_string(),
        text(&workspace["id"])
    );
    assert_eq!(gateway.ok(KEYS).await["data"], json!([]));
    let there = gateway.ok(&format!("{KEYS}?workspace_id={}", text(&workspace["id"]))).await;
    assert_eq!(there["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn expiry_is_checked_and_reaches_the_snapshot() {
    let gateway = Gateway::new().await;
    for (wrong, why) in [
        ("2001-01-01T00:00:00Z", "future"),
        ("2099-12-31T23:59Z", "UTC"),
        ("2099-12-31T23:59:59+02:00", "UTC"),
        ("2099-12-31T23:59:59-00:30", "UTC"),
        ("2099-12-31", "UTC"),
        ("tomorrow", "UTC"),
    ] {
        let (status, body) = gateway.post(KEYS, &json!({ "name": "k", "expires_at": wrong })).await;
        assert_eq!(status, 400, "{wrong}");
        assert!(message(&body).contains("expires_at") && message(&body).contains(why), "{body}");
    }
    let (key, secret) = create(&gateway, &json!({ "name": "k", "expires_at": "2099-12-31T23:59:59Z" })).await;
    assert_eq!(key["expires_at"], "2099-12-31T23:59:59Z");
    create(&gateway, &json!({ "name": "fraction", "expires_at": "2099-12-31T23:59:59.5Z" })).await;
    // 2100-01-01T00:00:00Z is 4102444800.
    assert_eq!(gateway.snapshot().keys[&hex::sha256(&secret)].expires_at, Some(4_102_444_799));

    // Soon, but not before it is created and was used, whatever else the machine does.
    let (_, secret) = {
        let soon = jiff::Timestamp::now() + std::time::Duration::from_secs(3);
        create(&gateway, &json!({ "name": "soon", "expires_at": soon.to_string() })).await
    };
    // Wait for the clock itself, as nothing announces an expiry.
    while gateway.call_as(Some(&secret), "GET", "/api/v1/key", None).await.0 == 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.ok(KEYS).await["data"].as_array().unwrap().len(), 2);
    let with = gateway.ok(&format!("{KEYS}?include_expired=true")).await;
    assert_eq!(with["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_key_from_elsewhere_is_known_and_never_returned() {
    let gateway = Gateway::new().await;
    let secret = "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";
    let body = json!({ "name": "upstream", "external": { "user": "user-1", "api_key": secret } });
    let (key, shown) = create(&gateway, &body).await;
    assert_eq!(shown, "sk-or-v1-0e6...1c96");
    assert_eq!(key["label"], "sk-or-v1-0e6...1c96");
    assert_eq!(key["external_user"], "user-1");
    assert_eq!(key["hash"], hex::encode(&hex::sha256(secret)));
    assert!(gateway.snapshot().keys.contains_key(&hex::sha256(secret)));

    let (status, again) = gateway.post(KEYS, &body).await;
    assert_eq!(status, 400);
    assert_eq!(again["error"]["metadata"]["hash"], key["hash"]);
    for (bad, why) in [
        (json!({ "user": "u", "api_key": "short" }), "32"),
        (json!({ "user": "u", "api_key": "a".repeat(40) }), "different"),
        (json!({ "user": "u", "api_key": "0123456789 0123456789 0123456789" }), "ASCII"),
        (json!({ "user": "u", "api_key": MANAGEMENT_KEY }), "management"),
        (json!({ "api_key": secret }), "external.user"),
        (json!("u"), "object"),
    ] {
        let (status, answer) = gateway.post(KEYS, &json!({ "name": "x", "external": bad })).await;
        assert_eq!(status, 400, "{answer}");
        assert!(message(&answer).contains(why), "{answer}");
    }
}

#[tokio::test]
async fn deleting_is_final() {
    let gateway = Gateway::new().await;
    let (key, secret) = create(&gateway, &json!({ "name": "app" })).await;
    let path = format!("{KEYS}/{}", text(&key["hash"]));
    let (status, body) = gateway.delete(&path).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "deleted": true })));
    assert_eq!(gateway.get(&path).await.0, 404);
    assert!(gateway.snapshot().keys.is_empty());
    assert_eq!(gateway.call_as(Some(&secret), "GET", "/api/v1/key", None).await.0, 401);
    // Numeric ids are not used twice, also not after a restart.
    let gateway = gateway.restart().await;
    let (next, _) = create(&gateway, &json!({ "name": "next" })).await;
    assert!(next["id"].as_i64() > key["id"].as_i64());
}

#[tokio::test]
async fn keys_come_newest_first_a_hundred_at_a_time() {
    let gateway = Gateway::new().await;
    for n in 0..101 {
        create(&gateway, &json!({ "name": n.to_string() })).await;
    }
    let first = gateway.ok(KEYS).await;
    assert_eq!(first["data"].as_array().unwrap().len(), 100);
    assert_eq!(first["data"][0]["name"], "100");
    assert!(first.get("total_count").is_none());
    let rest = gateway.ok(&format!("{KEYS}?offset=100")).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 1);
    assert_eq!(rest["data"][0]["name"], "0");
}

#[tokio::test]
async fn management_keys_manage_and_nothing_else() {
    let gateway = Gateway::new().await;
    let snapshot = gateway.snapshot();
    let hash = hex::sha256(MANAGEMENT_KEY);
    assert!(snapshot.management_keys.contains(&hash));
    assert!(!snapshot.keys.contains_key(&hash));
    let path = format!("{KEYS}/{}", hex::encode(&hash));
    assert_eq!(gateway.get(&path).await.0, 404);
    assert_eq!(gateway.delete(&path).await.0, 404);
    assert_eq!(gateway.ok(KEYS).await["data"], json!([]));
}

#[tokio::test]
async fn a_key_asks_about_itself() {
    let gateway = Gateway::new().await;
    let (key, secret) = create(&gateway, &json!({ "name": "app", "limit": 2.5 })).await;
    let (status, body) = gateway.call_as(Some(&secret), "GET", "/api/v1/key", None).await;
    assert_eq!(status, 200);
    let current = &body["data"];
    for field in [
        "label",
        "creator_user_id",
        "is_free_tier",
        "is_management_key",
        "is_provisioning_key",
        "organization_id",
        "workspace_id",
        "rate_limit",
        "allowed_data_regions",
        "free_model_daily_requests",
        "budgets",
        "effective_budget",
        "usage",
        "usage_daily",
        "usage_weekly",
        "usage_monthly",
        "byok_usage",
        "byok_usage_daily",
        "byok_usage_weekly",
        "byok_usage_monthly",
        "limit",
        "limit_remaining",
        "limit_reset",
        "include_byok_in_limit",
    ] {
        assert!(current.get(field).is_some(), "{field} in {current}");
    }
    assert_eq!(current["label"], key["label"]);
    assert_eq!(current["is_management_key"], false);
    assert_eq!(current["budgets"][0]["scope"], "key_limit");
    assert_eq!(current["effective_budget"]["remaining_usd"], 2.5);
    let own = gateway.ok("/api/v1/key").await;
    assert_eq!(own["data"]["is_management_key"], true);
    assert_eq!(own["data"]["workspace_id"], Json::Null);
    assert_eq!(own["data"]["effective_budget"], Json::Null);
}

#[tokio::test]
async fn times_are_whole_seconds_in_utc() {
    let gateway = Gateway::new().await;
    let (key, _) = create(&gateway, &json!({ "name": "app", "expires_at": "2927-12-31T23:59:59Z" })).await;
    assert_eq!(key["expires_at"], "2927-12-31T23:59:59Z");
    let path = format!("{KEYS}/{}", text(&key["hash"]));
    let (_, patched) = gateway.patch(&path, &json!({ "name": "other" })).await;
    let (_, workspace) = gateway.patch("/api/v1/workspaces/default", &json!({ "description": "d" })).await;
    let times = [
        &key["created_at"],
        &patched["data"]["updated_at"],
        &workspace["data"]["created_at"],
        &workspace["data"]["updated_at"],
    ];
    for time in times {
        let shape: String = text(time).chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z", "{time}");
    }
}
