//! Properties over generated input.
use proptest::prelude::*;

use super::*;
use crate::{FilterRules, mask, mask_url, otlp_traces_url};

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
        "https?://[a-z:@/?=&.*]{0,20}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[a-zA-Z_.]{0,8}", inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

/// A valid config with arbitrary secrets and headers.
fn any_config() -> impl Strategy<Value = (Kind, Json)> {
    let headers = prop::collection::btree_map("x-[a-z]{1,6}", "[ -~]{0,20}", 0..3);
    (any_kind(), any::<bool>(), "[!-~]{1,24}", headers).prop_map(|(kind, full, secret, headers)| {
        let case = case(kind);
        let mut config = if full { case.full } else { case.minimal };
        for key in case.secret {
            let replaced = !["dsn", "signingSecret"].contains(key) && config.get(*key).is_some();
            if replaced && !secret.starts_with("NRAK-") {
                config[*key] = json!(secret);
            }
        }
        (kind, with(&config, json!({ "headers": headers })))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patch_with_the_own_get_body_is_identity((kind, config) in any_config()) {
        let destination = created(kind, &config);
        let shown = destination.to_json();
        let patched = destination.patch(&shown, now()).unwrap();
        prop_assert_eq!(patched.to_stored(), destination.to_stored());
        prop_assert_eq!(patched.to_json(), shown);
    }

    #[test]
    fn storage_is_identity((kind, config) in any_config()) {
        let destination = created(kind, &config);
        let (plain, secrets) = destination.to_stored();
        let again = Destination::from_stored(&plain, &secrets).unwrap();
        prop_assert_eq!(again.to_stored(), (plain, secrets));
    }

    #[test]
    fn no_body_panics(kind in any_kind(), key in any::<prop::sample::Index>(), value in any_json(), more in any_json()) {
        let fields = [
            "type", "name", "workspace_id", "enabled", "sampling_rate", "api_key_hashes",
            "filter_rules", "regions", "rate_limit", "retry", "config", "id",
        ];
        let case = case(kind);
        let whole = body(kind, &case.minimal);
        let changed = with(&whole, json!({ fields[key.index(fields.len())]: value.clone() }));
        let keys: Vec<&String> = case.full.as_object().unwrap().keys().collect();
        let in_config = with(&case.full, json!({ keys[key.index(keys.len())]: value.clone(), "headers": more }));
        let current = created(kind, &case.full);
        for body in [changed, body(kind, &in_config), value] {
            for managed_by in ManagedBy::ALL {
                if let Ok(made) = Destination::create(&body, defaults(managed_by)) {
                    let (plain, secrets) = made.to_stored();
                    prop_assert!(Destination::from_stored(&plain, &secrets).is_ok());
                }
            }
            let _ = current.patch(&body, now());
            let _ = Destination::from_stored(&body, &body);
        }
    }

    #[test]
    fn filter_rules_read_back_what_they_write(value in any_json()) {
        for group in [json!({"rules": [value.clone()]}), value.clone()] {
            if let Ok(rules) = FilterRules::from_json(&json!({"groups": [group]})) {
                prop_assert_eq!(FilterRules::from_json(&rules.to_json()).unwrap(), rules);
            }
        }
        for operator in ["equals", "gt", "regex"] {
            for field in ["model", "total_cost"] {
                let rule = json!({"field": field, "operator": operator, "value": value});
                if let Ok(rules) = FilterRules::from_json(&json!({"groups": [{"rules": [rule]}]})) {
                    prop_assert_eq!(FilterRules::from_json(&rules.to_json()).unwrap(), rules);
                }
            }
        }
    }

    #[test]
    fn masks_have_two_forms_only(secret in ".{0,40}") {
        let masked = mask(&secret);
        prop_assert!(masked == "***" || masked.chars().count() == 11);
        let was_masked = crate::mask::is_masked(&secret);
        prop_assert!(secret.is_empty() || masked == "***" || was_masked || !masked.contains(&secret));
    }

    #[test]
    fn url_helpers_take_any_text(text in ".{0,40}", url in "https?://[a-z:@/?=&.#%]{0,30}") {
        for text in [text, url] {
            let _ = mask_url(&text);
            let _ = otlp_traces_url(&text);
            for kind in Kind::ALL {
                let case = case(kind);
                for key in ["baseUrl", "endpoint", "url", "host", "otlpEndpoint"] {
                    if case.full.get(key).is_some() {
                        let config = with(&case.minimal, json!({ key: text }));
                        if let Ok(made) = create(&body(kind, &config)) {
                            let target = made.config.target_url();
                            prop_assert!(target.is_none_or(|url| url::Url::parse(&url).is_ok()));
                        }
                    }
                }
            }
        }
    }
}
