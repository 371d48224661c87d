//! PATCH: absent keeps, null clears where allowed, config merges per key, masks change nothing.
use super::*;

fn later() -> Timestamp {
    "2026-10-01T00:00:00Z".parse().unwrap()
}

fn langfuse() -> Destination {
    let body = with(
        &body(Kind::Langfuse, &case(Kind::Langfuse).full),
        json!({
            "sampling_rate": 0.5,
            "api_key_hashes": ["ab".repeat(32)],
            "filter_rules": {"groups": [{"rules": [{"field": "model", "operator": "exists"}]}]},
            "regions": ["us"],
        }),
    );
    create(&body).unwrap()
}

#[test]
fn a_get_body_patched_back_changes_nothing() {
    for case in cases() {
        for config in [&case.minimal, &case.full] {
            let headers = json!({"headers": {"X-Long": "header-value-0123", "X-Short": "v"}});
            let destination = created(case.kind, &with(config, headers));
            let patched = destination.patch(&destination.to_json(), later()).unwrap();
            assert_eq!(whole(&patched), whole(&destination), "{}", case.kind);
            assert_eq!(patched.updated_at, later());
            assert_eq!(patched.created_at, destination.created_at);
        }
    }
}

#[test]
fn an_empty_patch_changes_nothing() {
    let destination = langfuse();
    for body in [json!({}), json!({"config": {}}), json!({"unknown": 1})] {
        assert_eq!(whole(&destination.patch(&body, later()).unwrap()), whole(&destination));
    }
    sole(destination.patch(&json!([]), later()), "body");
}

#[test]
fn one_field_changes_and_the_others_stay() {
    let destination = langfuse();
    for (key, value) in [
        ("name", json!("other")),
        ("enabled", json!(false)),
        ("privacy_mode", json!(true)),
        ("sampling_rate", json!(0.75)),
        ("api_key_hashes", json!(["cd".repeat(32)])),
        ("filter_rules", json!({"enabled": false, "groups": []})),
        ("regions", json!(["europe", "global"])),
        ("broadcast_generation_cost", json!(true)),
        ("broadcast_generation_identity", json!(true)),
        ("broadcast_generation_request_context", json!(true)),
        ("broadcast_generation_cost_allocation", json!(true)),
    ] {
        let patched = destination.patch(&json!({ key: value }), later()).unwrap();
        let (mut expected, secrets) = whole(&destination);
        expected[key] = value;
        assert_eq!(whole(&patched), (expected, secrets), "{key}");
    }
}

#[test]
fn null_clears_only_hashes_and_filter_rules() {
    let destination = langfuse();
    let cleared = destination.patch(&json!({"api_key_hashes": null, "filter_rules": null}), later()).unwrap();
    assert_eq!((cleared.api_key_hashes, cleared.filter_rules), (None, None));
    for key in ["name", "enabled", "privacy_mode", "sampling_rate", "regions", "config"] {
        sole(destination.patch(&json!({ key: null }), later()), key);
    }
    sole(destination.patch(&json!({"regions": []}), later()), "regions");
    sole(destination.patch(&json!({"api_key_hashes": []}), later()), "api_key_hashes");
}

#[test]
fn read_only_fields_may_be_repeated_but_not_changed() {
    let destination = langfuse();
    let other = "00000000-0000-4000-8000-000000000000";
    for (key, same, changed) in [
        ("id", json!(ID.to_string()), json!(other)),
        ("workspace_id", json!(DEFAULT_WORKSPACE_ID.to_string().to_uppercase()), json!(other)),
        ("type", json!("langfuse"), json!("webhook")),
    ] {
        destination.patch(&json!({ key: same }), later()).unwrap();
        sole(destination.patch(&json!({ key: changed }), later()), key);
        sole(destination.patch(&json!({ key: null }), later()), key);
    }
    // an older answer carries older times
    let older = json!({"updated_at": "2020-01-01T00:00:00.000Z", "created_at": 1, "managed_by": "x"});
    assert_eq!(whole(&destination.patch(&older, later()).unwrap()), whole(&destination));
}

#[test]
fn config_merges_per_key_and_ignores_masks() {
    let destination = langfuse();
    let patched = destination
        .patch(&json!({"config": {"publicKey": "pk-l...EfGh", "secretKey": "sk-lf-new-0123456789"}}), later())
        .unwrap();
    let (plain, secrets) = patched.to_stored();
    assert_eq!(secrets["publicKey"], "pk-lf-0000-1111-AbEfGh");
    assert_eq!(secrets["secretKey"], "sk-lf-new-0123456789");
    assert_eq!(plain["config"]["baseUrl"], "http://127.0.0.1:3000/");
    // the mask of an older secret, and the mask of a short one, are masks too
    for masked in ["sk-l...9999", "***", "...........", "ab c...é xy"] {
        let patched = destination.patch(&json!({"config": {"secretKey": masked}}), later()).unwrap();
        assert_eq!(whole(&patched), whole(&destination), "{masked}");
    }
    let issue = sole(destination.patch(&json!({"config": {"secretKey": null}}), later()), "config.secretKey");
    assert_eq!(issue.message, "is required");
    let reset = destination.patch(&json!({"config": {"baseUrl": null}}), later()).unwrap();
    assert_eq!(reset.to_json()["config"]["baseUrl"], "https://us.cloud.langfuse.com");
    sole(destination.patch(&json!({"config": {"basurl": "x"}}), later()), "config.basurl");
    sole(destination.patch(&json!({"config": []}), later()), "config");
}

#[test]
fn a_create_takes_secrets_that_look_masked() {
    let config = json!({"publicKey": "pk-l...EfGh", "secretKey": "***", "headers": {"X-A": "***"}});
    let destination = created(Kind::Langfuse, &config);
    let (_, secrets) = destination.to_stored();
    assert_eq!(secrets, config);
    let patched = destination.patch(&destination.to_json(), later()).unwrap();
    assert_eq!(whole(&patched), whole(&destination));
}

#[test]
fn headers_are_replaced_as_a_whole_with_masks_resolved() {
    let config = json!({"endpoint": "http://h", "headers": {"X-A": "value-a-01234567", "X-B": "b"}});
    let destination = created(Kind::OtelCollector, &config);
    let headers_after = |headers: Json| {
        let patched = destination.patch(&json!({"config": {"headers": headers}}), later()).unwrap();
        patched.to_stored().1.get("headers").cloned()
    };
    assert_eq!(
        headers_after(json!({"x-a": "valu...4567", "X-C": "c", "X-Gone": "***"})),
        Some(json!({"x-a": "value-a-01234567", "X-C": "c"}))
    );
    assert_eq!(headers_after(json!({})), None);
    assert_eq!(headers_after(json!(null)), None);
    let bad = json!({"config": {"headers": {"X-A": null}}});
    sole(destination.patch(&bad, later()), "config.headers.X-A");
}

#[test]
fn optional_secrets_can_be_cleared() {
    let destination = created(Kind::S3, &case(Kind::S3).full);
    let patched = destination.patch(&json!({"config": {"sessionToken": null}}), later()).unwrap();
    assert_eq!(patched.to_stored().1.get("sessionToken"), None);
    // a mask for something that is not there stays nothing
    let again = patched.patch(&json!({"config": {"sessionToken": "sess...0001"}}), later()).unwrap();
    assert_eq!(whole(&again), whole(&patched));
}

#[test]
fn a_masked_webhook_url_is_kept_and_a_mixed_one_refused() {
    let url = "https://user:pass@h/p?token=0123456789ab";
    let destination = created(Kind::Webhook, &json!({"url": url}));
    let masked = "https://***:***@h/p?token=0123...89ab";
    assert_eq!(destination.to_json()["config"]["url"], masked);
    let (plain, secrets) = destination.to_stored();
    assert_eq!((plain["config"].get("url"), &secrets["url"]), (None, &json!(url)));
    let patch = |url: &str| destination.patch(&json!({"config": {"url": url}}), later());
    assert_eq!(whole(&patch(masked).unwrap()), whole(&destination));
    assert_eq!(patch("https://other/?t=1").unwrap().to_stored().1["url"], "https://other/?t=1");
    sole(patch("https://other/p?token=0123...89ab"), "config.url");
    // created masked, as the official example does with keys
    created(Kind::Webhook, &json!({"url": masked}));
}
