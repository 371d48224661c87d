//! Destinations through the API.

use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};
use tracecast_destination::{DEFAULT_WORKSPACE_ID, Issue};

use super::{DESTINATIONS, Gateway, canaries, configs, id_of, langfuse, message, path_of, text, webhook};

#[tokio::test]
async fn life_cycle_of_every_kind() {
    let gateway = Gateway::new().await;
    for (kind, config) in configs() {
        let body = json!({ "type": kind.as_str(), "name": "first", "config": config });
        let created = gateway.created(DESTINATIONS, &body).await;
        assert_eq!(created["type"], kind.as_str());
        assert_eq!(created["workspace_id"], DEFAULT_WORKSPACE_ID.to_string());
        assert_eq!(created["managed_by"], "api");
        assert_eq!(created["enabled"], true);
        assert_eq!(created["sampling_rate"], 1.0);
        assert_eq!(created["regions"], json!(["global"]));
        for canary in canaries(&config) {
            assert!(!created.to_string().contains(&canary), "{created}");
        }

        let path = path_of(&created);
        let shown = gateway.ok(&path).await["data"].clone();
        assert_eq!(shown, created);

        // A whole GET body sent back changes nothing but the time.
        let (status, unchanged) = gateway.patch(&path, &shown).await;
        assert_eq!(status, 200, "{unchanged}");
        assert_eq!(without_time(&unchanged["data"]), without_time(&created));
        let stored = gateway.control.model().destinations[&id_of(&created)].destination.to_stored();
        for canary in canaries(&config) {
            let all = format!("{}{}", stored.0, stored.1);
            assert!(all.contains(&canary), "{kind:?} lost a secret");
        }

        let (status, renamed) =
            gateway.patch(&path, &json!({ "name": "second", "sampling_rate": 0.5 })).await;
        assert_eq!(status, 200, "{renamed}");
        assert_eq!(renamed["data"]["name"], "second");
        assert_eq!(renamed["data"]["sampling_rate"], 0.5);
        assert_eq!(renamed["data"]["config"], created["config"]);

        let (status, deleted) = gateway.delete(&path).await;
        assert_eq!((status.as_u16(), deleted), (200, json!({ "deleted": true })));
        assert_eq!(gateway.get(&path).await.0, 404);
        assert_eq!(gateway.delete(&path).await.0, 404);
        assert_eq!(gateway.patch(&path, &json!({})).await.0, 404);
    }
    let list = gateway.ok(DESTINATIONS).await;
    assert_eq!(list, json!({ "data": [], "total_count": 0 }));
}

fn without_time(object: &Json) -> Json {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("updated_at");
    object
}

#[tokio::test]
async fn another_type_is_refused() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    let (status, body) = gateway.patch(&path_of(&created), &json!({ "type": "langfuse" })).await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn masked_secrets_written_back_keep_the_secret_and_new_ones_replace_it() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &langfuse("lf")).await;
    assert_eq!(created["config"]["publicKey"], "pk-l...EfGh");
    assert_eq!(created["config"]["secretKey"], "sk-l...AbCd");
    let path = path_of(&created);
    let secrets =
        || gateway.control.model().destinations[&id_of(&created)].destination.to_stored().1.to_string();

    let masked = json!({ "config": { "publicKey": "pk-l...EfGh", "secretKey": "sk-x...XXXX" } });
    assert_eq!(gateway.patch(&path, &masked).await.0, 200);
    assert!(secrets().contains("pk-lf-public-key-canary-EfGh"));
    assert!(secrets().contains("sk-lf-secret-key-canary-AbCd"));

    let new = json!({ "config": { "secretKey": "sk-lf-another-secret-WxYz" } });
    let (status, body) = gateway.patch(&path, &new).await;
    assert_eq!(status, 200);
    assert_eq!(body["data"]["config"]["secretKey"], "sk-l...WxYz");
    assert!(secrets().contains("pk-lf-public-key-canary-EfGh"));
    assert!(secrets().contains("sk-lf-another-secret-WxYz"));
}

#[tokio::test]
async fn null_clears_and_absent_keeps() {
    let gateway = Gateway::new().await;
    let mut body = webhook("hook");
    body["api_key_hashes"] = json!(["ab".repeat(32)]);
    body["filter_rules"] = json!({ "groups": [{ "rules": [
        { "field": "model", "operator": "equals", "value": "m" }] }] });
    let created = gateway.created(DESTINATIONS, &body).await;
    let path = path_of(&created);
    let (_, kept) = gateway.patch(&path, &json!({ "name": "n" })).await;
    assert_eq!(kept["data"]["api_key_hashes"], created["api_key_hashes"]);
    assert_eq!(kept["data"]["filter_rules"], created["filter_rules"]);
    let (status, cleared) =
        gateway.patch(&path, &json!({ "api_key_hashes": null, "filter_rules": null })).await;
    assert_eq!(status, 200, "{cleared}");
    assert_eq!(cleared["data"]["api_key_hashes"], Json::Null);
    assert_eq!(cleared["data"]["filter_rules"], Json::Null);
}

#[tokio::test]
async fn pages_keep_creation_order() {
    let gateway = Gateway::with(|options| options.destinations_per_kind = 100).await;
    let mut created = Vec::new();
    for n in 0..7 {
        created.push(text(&gateway.created(DESTINATIONS, &webhook(&n.to_string())).await["id"]));
    }
    let mut seen = Vec::new();
    loop {
        let page = gateway.ok(&format!("{DESTINATIONS}?offset={}&limit=3", seen.len())).await;
        assert_eq!(page["total_count"], 7);
        let data = page["data"].as_array().unwrap().clone();
        seen.extend(data.iter().map(|d| text(&d["id"])));
        if data.len() < 3 {
            break;
        }
    }
    assert_eq!(seen, created);
    let beyond = gateway.ok(&format!("{DESTINATIONS}?offset=100")).await;
    assert_eq!(beyond, json!({ "data": [], "total_count": 7 }));
    // Not given, empty and null are the same.
    let all = gateway.ok(&format!("{DESTINATIONS}?offset=null&limit=")).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn the_sixth_of_a_kind_is_a_conflict_until_one_is_deleted() {
    let gateway = Gateway::new().await;
    let mut last = Json::Null;
    for n in 0..5 {
        last = gateway.created(DESTINATIONS, &webhook(&n.to_string())).await;
    }
    for path in [DESTINATIONS.to_owned(), format!("{DESTINATIONS}?test=true")] {
        let (status, body) = gateway.post(&path, &webhook("sixth")).await;
        assert_eq!(status, 409);
        assert!(message(&body).contains("already has 5 destinations of type webhook"), "{body}");
    }
    gateway.created(DESTINATIONS, &langfuse("other kind")).await;
    let workspace = gateway.created("/api/v1/workspaces", &json!({ "name": "W", "slug": "w" })).await;
    let mut elsewhere = webhook("other workspace");
    elsewhere["workspace_id"] = workspace["id"].clone();
    gateway.created(DESTINATIONS, &elsewhere).await;

    assert_eq!(gateway.delete(&path_of(&last)).await.0, 200);
    gateway.created(DESTINATIONS, &webhook("sixth")).await;
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 6);
    let there = format!("{DESTINATIONS}?workspace_id={}", text(&workspace["id"]));
    assert_eq!(gateway.ok(&there).await["total_count"], 1);
}

#[tokio::test]
async fn every_mistake_is_told_at_once() {
    let gateway = Gateway::new().await;
    let body = json!({ "type": "langfuse", "name": "x", "workspace_id": "no-such", "sampling_rate": 7,
        "config": { "publicKey": "pk-lf-public-key-canary-EfGh" } });
    let (status, answer) = gateway.post(DESTINATIONS, &body).await;
    assert_eq!(status, 400);
    let paths: Vec<String> = answer["error"]["metadata"]["issues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|issue| text(&issue["path"]))
        .collect();
    for path in ["workspace_id", "sampling_rate", "config.secretKey"] {
        assert!(paths.contains(&path.to_owned()), "{path} in {paths:?}");
        assert!(message(&answer).contains(path), "{answer}");
    }
    assert!(!answer.to_string().contains("pk-lf-public-key-canary"), "{answer}");
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);
}

#[tokio::test]
async fn values_upstream_refuses_are_refused() {
    let gateway = Gateway::new().await;
    for (field, value) in [
        ("api_key_hashes", json!([])),
        ("regions", json!([])),
        ("sampling_rate", json!(0)),
        ("sampling_rate", json!(0.00009)),
        ("sampling_rate", json!(1.01)),
        ("name", json!(null)),
        ("type", json!("nonsense")),
    ] {
        let mut body = webhook("hook");
        body[field] = value.clone();
        let (status, answer) = gateway.post(DESTINATIONS, &body).await;
        assert_eq!(status, 400, "{field} = {value}: {answer}");
    }
    let mut body = webhook("hook");
    body["regions"] = json!(["eu"]);
    assert_eq!(gateway.created(DESTINATIONS, &body).await["regions"], json!(["europe"]));
}

#[tokio::test]
async fn a_write_is_in_the_snapshot_and_the_runtime_when_it_is_answered() {
    let gateway = Gateway::new().await;
    let before = gateway.snapshot();
    assert!(before.workspaces.contains_key(&DEFAULT_WORKSPACE_ID));
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    let after = gateway.snapshot();
    assert!(after.generation > before.generation);
    assert!(!std::sync::Arc::ptr_eq(
        &before.workspaces[&DEFAULT_WORKSPACE_ID],
        &after.workspaces[&DEFAULT_WORKSPACE_ID]
    ));
    assert!(gateway.runtime.applied.lock().unwrap().0.contains(&id_of(&created)));

    // What a write does not concern is not compiled again.
    gateway.post("/api/v1/keys", &json!({ "name": "k" })).await;
    assert!(std::sync::Arc::ptr_eq(
        &after.workspaces[&DEFAULT_WORKSPACE_ID],
        &gateway.snapshot().workspaces[&DEFAULT_WORKSPACE_ID]
    ));

    gateway.delete(&path_of(&created)).await;
    assert!(gateway.runtime.applied.lock().unwrap().0.is_empty());
}

#[tokio::test]
async fn a_write_costs_what_it_changes() {
    let gateway = Gateway::new().await;
    for n in 0..3 {
        gateway.created(DESTINATIONS, &webhook(&format!("other {n}"))).await;
    }
    let told = || gateway.runtime.told.load(Ordering::SeqCst);
    let (before, keys) = (told(), gateway.snapshot().keys.clone());
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    assert_eq!(gateway.patch(&path_of(&created), &json!({ "sampling_rate": 0.5 })).await.0, 200);
    assert_eq!(gateway.delete(&path_of(&created)).await.0, 200);
    assert_eq!(told() - before, 3, "only of the destination that was written");
    assert!(std::sync::Arc::ptr_eq(&keys, &gateway.snapshot().keys));
    gateway.post("/api/v1/keys", &json!({ "name": "k" })).await;
    assert_eq!((told() - before, gateway.snapshot().keys.len()), (3, keys.len() + 1));
}

#[tokio::test]
async fn what_the_runtime_missed_is_made_up_for_with_the_next_write() {
    let gateway = Gateway::new().await;
    let gone = gateway.created(DESTINATIONS, &webhook("gone")).await;
    let kept = gateway.created(DESTINATIONS, &webhook("kept")).await;
    gateway.runtime.apply_panics.store(true, Ordering::SeqCst);
    assert_eq!(gateway.delete(&path_of(&gone)).await.0, 200);
    let late = gateway.created(DESTINATIONS, &webhook("late")).await;
    let plan = |gateway: &Gateway| gateway.snapshot().workspaces[&DEFAULT_WORKSPACE_ID].len();
    assert_eq!(plan(&gateway), 2);

    gateway.runtime.apply_panics.store(false, Ordering::SeqCst);
    gateway.post("/api/v1/keys", &json!({ "name": "k" })).await;
    assert_eq!(gateway.runtime.applied.lock().unwrap().0, [id_of(&kept), id_of(&late)].into());
    assert_eq!(plan(&gateway), 2);
    assert_eq!(gateway.delete(&path_of(&kept)).await.0, 200);
    assert_eq!(plan(&gateway), 1);
}

#[tokio::test]
async fn a_refused_write_leaves_nothing_behind() {
    let gateway = Gateway::new().await;
    let before = gateway.snapshot().generation;
    gateway.post(DESTINATIONS, &json!({ "type": "webhook" })).await;
    gateway.delete(&format!("{DESTINATIONS}/{}", uuid::Uuid::now_v7())).await;
    assert_eq!(gateway.snapshot().generation, before);
}

#[tokio::test]
async fn with_test_only_what_works_is_stored() {
    let gateway = Gateway::new().await;
    let tested = format!("{DESTINATIONS}?test=true");
    gateway.runtime.test_fails.store(true, Ordering::SeqCst);
    let (status, body) = gateway.post(&tested, &webhook("hook")).await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["metadata"]["test"]["diagnosis"], "auth");
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 0);

    gateway.runtime.test_fails.store(false, Ordering::SeqCst);
    let created = gateway.created(&tested, &webhook("hook")).await;
    gateway.runtime.test_fails.store(true, Ordering::SeqCst);
    let path = format!("{}?test=true", path_of(&created));
    let (status, body) = gateway.patch(&path, &json!({ "name": "renamed" })).await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["metadata"]["test"]["ok"], false);
    assert_eq!(gateway.ok(&path_of(&created)).await["data"]["name"], "hook");
    gateway.runtime.test_fails.store(false, Ordering::SeqCst);
    assert_eq!(gateway.patch(&path, &json!({ "name": "renamed" })).await.0, 200);
    assert_eq!(gateway.ok(&path_of(&created)).await["data"]["name"], "renamed");
}

#[tokio::test]
async fn connection_tests_answer_200_whatever_the_outcome() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    let by_id = format!("{}/test", path_of(&created));
    let by_body = format!("{DESTINATIONS}/test");
    for fails in [false, true] {
        gateway.runtime.test_fails.store(fails, Ordering::SeqCst);
        for (path, body) in [(&by_id, Json::Null), (&by_body, webhook("other"))] {
            let (status, answer) = gateway.post(path, &body).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer["data"]["ok"], !fails);
        }
    }
    assert_eq!(gateway.post(&by_body, &json!({})).await.0, 400);
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 1);
}

#[tokio::test]
async fn pause_outlives_a_restart_and_resume_always_reaches_the_runtime() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    let (path, id) = (path_of(&created), id_of(&created));
    assert_eq!(created["state"], "degraded");
    let (status, paused) = gateway.post(&format!("{path}/pause"), &Json::Null).await;
    assert_eq!(status, 200);
    assert_eq!(paused["data"]["state"], "paused");
    assert!(gateway.runtime.paused.lock().unwrap().contains(&id));

    let gateway = gateway.restart().await;
    assert!(gateway.runtime.paused.lock().unwrap().contains(&id));
    assert!(gateway.runtime.applied.lock().unwrap().0.contains(&id));
    assert_eq!(gateway.ok(&path).await["data"]["state"], "paused");
    for _ in 0..2 {
        let (status, resumed) = gateway.post(&format!("{path}/resume"), &Json::Null).await;
        assert_eq!(status, 200);
        assert_eq!(resumed["data"]["state"], "degraded");
    }
    assert_eq!(*gateway.runtime.resumed.lock().unwrap(), [id, id]);
    assert!(gateway.runtime.paused.lock().unwrap().is_empty());
}

#[tokio::test]
async fn statistics_carry_the_identity() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    gateway.runtime.apply_errors.lock().unwrap().push((id_of(&created), "no such adapter".to_owned()));
    gateway.created(DESTINATIONS, &langfuse("other")).await;
    let stats = gateway.ok(&format!("{}/stats", path_of(&created))).await["data"].clone();
    assert_eq!(
        stats,
        json!({ "destination_id": created["id"], "workspace_id": created["workspace_id"], "type": "webhook",
                "name": "hook", "state": "degraded", "selected": 7, "warnings": ["no such adapter"] })
    );
    let all = gateway.ok("/api/v1/observability/stats?limit=1").await;
    assert_eq!(all["total_count"], 2);
    assert_eq!(all["data"]["gateway"]["accepted"], 9);
    assert_eq!(all["data"]["destinations"], json!([stats]));
    assert_eq!(
        gateway.ok("/api/v1/observability/stats?workspace_id=default&offset=1").await["data"]["destinations"]
            [0]["name"],
        "other"
    );
}

#[tokio::test]
async fn a_runtime_that_panics_costs_no_stored_write() {
    let gateway = Gateway::new().await;
    gateway.runtime.apply_panics.store(true, Ordering::SeqCst);
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 1);
    let (status, body) = gateway.call_as(None, "GET", "/readyz", None).await;
    assert_eq!(status, 503);
    assert!(message(&body).contains("not in effect"), "{body}");

    gateway.runtime.apply_panics.store(false, Ordering::SeqCst);
    gateway.created(DESTINATIONS, &langfuse("next")).await;
    assert!(gateway.runtime.applied.lock().unwrap().0.contains(&id_of(&created)));
    assert_eq!(gateway.call_as(None, "GET", "/readyz", None).await.0, 200);
}

#[tokio::test]
async fn the_audit_log_names_who_and_what_and_no_value() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &langfuse("lf")).await;
    gateway
        .patch(&path_of(&created), &json!({ "config": { "secretKey": "sk-lf-another-secret-WxYz" } }))
        .await;
    let log = gateway.ok("/api/v1/audit-log?limit=2").await;
    assert_eq!(log["total_count"], 3, "workspace, create, update");
    let update = &log["data"][0];
    assert_eq!(update["action"], "destination.update");
    assert_eq!(update["target"], created["id"]);
    assert_eq!(update["actor"], "mana...6789");
    assert_eq!(update["fields"], json!(["config.secretKey"]));
    assert_eq!(log["data"][1]["action"], "destination.create");
    assert!(!log.to_string().contains("sk-lf"), "{log}");
}

#[tokio::test]
async fn what_the_running_gateway_objects_to_is_refused() {
    let gateway = Gateway::new().await;
    let created = gateway.created(DESTINATIONS, &webhook("hook")).await;
    gateway.runtime.refused.lock().unwrap().push(Issue {
        path: "config.url".to_owned(),
        message: "is a listener of this gateway".to_owned(),
        hint: None,
    });
    let (status, body) = gateway.post(DESTINATIONS, &webhook("loop")).await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["metadata"]["issues"][0]["path"], "config.url");
    assert_eq!(gateway.post(&format!("{DESTINATIONS}/test"), &webhook("loop")).await.0, 400);
    assert_eq!(gateway.patch(&path_of(&created), &json!({ "name": "n" })).await.0, 400);
}

#[tokio::test]
async fn concurrent_creates_respect_the_limit() {
    let gateway = Gateway::new().await;
    let gateway = &gateway;
    let calls =
        (0..20).map(|n| async move { gateway.post(DESTINATIONS, &webhook(&n.to_string())).await.0.as_u16() });
    let mut statuses = futures_util::future::join_all(calls).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![201; 5], vec![409; 15]].concat());
    assert_eq!(gateway.ok(DESTINATIONS).await["total_count"], 5);
}

#[tokio::test]
async fn a_caller_that_hangs_up_cannot_stop_a_write_half_way() {
    let gateway = Gateway::new().await;
    for n in 0..5 {
        let body = webhook(&n.to_string());
        let call = gateway.post(DESTINATIONS, &body);
        // Polled until the write is on its way, then dropped.
        let mut call = Box::pin(call);
        for _ in 0..=n {
            if futures_util::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // The next write queues behind them.
    gateway.created(DESTINATIONS, &langfuse("last")).await;
    let before = gateway.ok(DESTINATIONS).await;
    assert!(before["total_count"].as_u64() > Some(1), "{before}");
    let live = gateway.runtime.applied.lock().unwrap().0.len();
    assert_eq!(before["total_count"], live);
    let gateway = gateway.restart().await;
    assert_eq!(gateway.ok(DESTINATIONS).await, before);
}

/// The two examples of upstream's documentation, field for field; ours are `managed_by` and `state`.
#[tokio::test]
async fn the_documented_examples() {
    let gateway = Gateway::new().await;
    let body: Json = serde_json::from_str(
        r#"{"config":{"baseUrl":"https://us.cloud.langfuse.com","publicKey":"pk-l...EfGh","secretKey":"sk-l...AbCd"},
            "name":"Production Langfuse","type":"langfuse"}"#,
    )
    .unwrap();
    let (status, created) = gateway.post(DESTINATIONS, &body).await;
    assert_eq!(status, 201, "{created}");
    let created = &created["data"];
    let expected = json!({
        "api_key_hashes": null,
        "broadcast_generation_cost": false,
        "broadcast_generation_cost_allocation": false,
        "broadcast_generation_identity": false,
        "broadcast_generation_request_context": false,
        "config": { "baseUrl": "https://us.cloud.langfuse.com", "publicKey": "pk-l...EfGh", "secretKey": "sk-l...AbCd" },
        "created_at": created["created_at"],
        "enabled": true,
        "filter_rules": null,
        "id": created["id"],
        "managed_by": "api",
        "name": "Production Langfuse",
        "privacy_mode": false,
        "regions": ["global"],
        "sampling_rate": 1,
        "state": created["state"],
        "type": "langfuse",
        "updated_at": created["created_at"],
        "workspace_id": DEFAULT_WORKSPACE_ID.to_string(),
    });
    assert_eq!(created, &expected);
    let milliseconds = |time: &Json| {
        let time = text(time);
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{time}");
        time.parse::<jiff::Timestamp>().unwrap()
    };
    milliseconds(&created["created_at"]);

    let patch: Json = serde_json::from_str(r#"{"enabled":false,"name":"Updated Langfuse"}"#).unwrap();
    let (status, updated) = gateway.patch(&path_of(created), &patch).await;
    assert_eq!(status, 200, "{updated}");
    let updated = &updated["data"];
    assert!(milliseconds(&updated["updated_at"]) >= milliseconds(&created["updated_at"]));
    let mut expected = created.clone();
    expected["enabled"] = false.into();
    expected["name"] = "Updated Langfuse".into();
    expected["updated_at"] = updated["updated_at"].clone();
    assert_eq!(updated, &expected);
    assert_eq!(&gateway.ok(&path_of(created)).await["data"], updated);
}
