//! What holds for every kind: creation, required keys, types, unknown keys, storage.
use std::collections::BTreeSet;

use super::*;

#[test]
fn names_are_those_of_the_contract() {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(
        names.join(" "),
        "arize braintrust clickhouse datadog grafana langfuse langsmith newrelic opik \
         otel-collector posthog ramp s3 sentry snowflake weave webhook"
    );
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        assert_eq!(created(kind, &case(kind).minimal).config.kind(), kind);
    }
    assert_eq!(Kind::parse("Langfuse"), None);
}

/// The config the API shows for one that was sent: secrets masked as in 1.7.
fn shown(config: &Json, secret: &[&str]) -> Json {
    let mut shown = config.clone();
    for key in secret {
        if let Some(value) = shown.get(*key).and_then(Json::as_str).map(str::to_owned) {
            let chars: Vec<char> = value.chars().collect();
            shown[*key] = if chars.len() < 12 {
                json!("***")
            } else {
                let first: String = chars[..4].iter().collect();
                let last: String = chars[chars.len() - 4..].iter().collect();
                json!(format!("{first}...{last}"))
            };
        }
    }
    shown
}

#[test]
fn minimal_create_fills_in_the_defaults_and_masks() {
    for case in cases() {
        let destination = created(case.kind, &case.minimal);
        let expected = shown(&with(&case.minimal, case.defaults), case.secret);
        assert_eq!(destination.to_json()["config"], expected, "{}", case.kind);
    }
}

#[test]
fn full_create_returns_what_was_entered() {
    for case in cases() {
        let destination = created(case.kind, &case.full);
        assert_eq!(destination.to_json()["config"], shown(&case.full, case.secret), "{}", case.kind);
    }
}

#[test]
fn the_full_case_has_every_key_of_the_table() {
    for case in cases() {
        for field in crate::config::schema(case.kind).fields {
            let present = case.full.get(field.name).is_some() || !field.is_given();
            assert!(present, "{} {}", case.kind, field.name);
        }
    }
}

#[test]
fn each_missing_required_key_is_named_and_all_at_once() {
    for case in cases() {
        let required: Vec<String> = case.minimal.as_object().unwrap().keys().cloned().collect();
        for key in &required {
            let issue =
                sole(create(&body(case.kind, &without(&case.minimal, key))), &format!("config.{key}"));
            assert!(issue.message.starts_with("is required"), "{issue}");
            // null is no value either
            sole(
                create(&body(case.kind, &with(&case.minimal, json!({ key: null })))),
                &format!("config.{key}"),
            );
        }
        let paths: Vec<String> = refused(case.kind, &json!({})).into_iter().map(|issue| issue.path).collect();
        for key in &required {
            assert!(paths.contains(&format!("config.{key}")), "{} {key}: {paths:?}", case.kind);
        }
        assert_eq!(paths.len(), required.len(), "{} {paths:?}", case.kind);
    }
}

#[test]
fn wrong_types_are_named_with_what_was_found() {
    for case in cases() {
        for (key, good) in case.full.as_object().unwrap() {
            for (bad, found) in
                [(json!(7), "a number"), (json!([1]), "an array"), (json!({"a": 1}), "an object")]
            {
                let issue = sole(
                    create(&body(case.kind, &with(&case.full, json!({ key: bad })))),
                    &format!("config.{key}"),
                );
                let expected = if good.is_boolean() { "true or false" } else { "a string" };
                assert_eq!(issue.message, format!("must be {expected}, found {found}"));
            }
        }
    }
}

#[test]
fn empty_and_blank_text_is_refused_except_a_prefix() {
    for case in cases() {
        for (key, value) in case.full.as_object().unwrap() {
            if value.is_boolean() || key == "prefix" {
                continue;
            }
            for empty in ["", "  ", "x\n"] {
                let config = with(&case.full, json!({ key: empty }));
                let issues = refused(case.kind, &config);
                assert_eq!(issues[0].path, format!("config.{key}"), "{} {issues:?}", case.kind);
            }
        }
    }
}

#[test]
fn null_of_an_optional_key_means_its_default() {
    for case in cases() {
        let optional = case.full.as_object().unwrap().keys();
        let nulls: serde_json::Map<String, Json> = optional
            .filter(|key| case.minimal.get(key.as_str()).is_none())
            .map(|key| (key.clone(), Json::Null))
            .collect();
        let config = with(
            &case.minimal,
            Json::Object(with(&Json::Object(nulls), json!({"headers": null})).as_object().unwrap().clone()),
        );
        let expected = created(case.kind, &case.minimal);
        assert_eq!(whole(&created(case.kind, &config)), whole(&expected), "{}", case.kind);
    }
}

#[test]
fn unknown_config_keys_are_named_with_a_suggestion() {
    for case in cases() {
        let issue = sole(
            create(&body(case.kind, &with(&case.minimal, json!({"nonsense_xyz": 1})))),
            "config.nonsense_xyz",
        );
        let hint = issue.hint.unwrap();
        assert!(hint.starts_with("known: ") && hint.ends_with("headers"), "{hint}");
    }
    let issue = sole(
        create(&body(Kind::Langfuse, &with(&case(Kind::Langfuse).minimal, json!({"base_url": "x"})))),
        "config.base_url",
    );
    assert_eq!(issue.hint.as_deref(), Some("did you mean \"baseUrl\"?"));
}

#[test]
fn a_config_that_is_no_object_is_refused() {
    for kind in Kind::ALL {
        for config in [json!(null), json!([]), json!("x"), json!(1), json!(true)] {
            let issue = sole(create(&body(kind, &config)), "config");
            assert!(issue.message.starts_with("must be an object, found "), "{issue}");
        }
    }
}

#[test]
fn storage_round_trip_is_exact() {
    for case in cases() {
        for config in [&case.minimal, &case.full] {
            let config = with(config, json!({"headers": {"X-B": "value-b-0123456789", "x-a": ""}}));
            let destination = created(case.kind, &config);
            let (plain, secrets) = destination.to_stored();
            let again = Destination::from_stored(&plain, &secrets).unwrap();
            assert_eq!(again.to_stored(), (plain.clone(), secrets.clone()), "{}", case.kind);
            assert_eq!(again.to_json(), destination.to_json());
            assert_eq!(again.created_at, destination.created_at);
            for (key, value) in config.as_object().unwrap() {
                let sealed = case.secret.contains(&key.as_str()) || key == "headers";
                let home = if sealed { &secrets[key] } else { &plain["config"][key] };
                assert_eq!(home, value, "{} {key}", case.kind);
                let other = if sealed { plain["config"].get(key) } else { secrets.get(key) };
                assert_eq!(other, None, "{} {key}", case.kind);
            }
        }
    }
}

#[test]
fn stored_forms_that_are_damaged_are_refused_with_a_path() {
    let (plain, secrets) = created(Kind::Langfuse, &case(Kind::Langfuse).minimal).to_stored();
    let load = |plain: &Json, secrets: &Json| Destination::from_stored(plain, secrets);
    sole(load(&without(&plain, "id"), &secrets), "id");
    sole(load(&with(&plain, json!({"created_at": "yesterday"})), &secrets), "created_at");
    sole(load(&plain, &without(&secrets, "secretKey")), "config.secretKey");
    sole(load(&plain, &json!([])), "config");
    sole(load(&plain, &with(&secrets, json!({"secretKey": 1}))), "config");
    sole(load(&json!(null), &secrets), "body");
}

#[test]
fn a_stored_config_without_a_newer_field_gets_its_default() {
    let (plain, secrets) = created(Kind::S3, &case(Kind::S3).minimal).to_stored();
    let mut older = plain.clone();
    older["config"] = without(&plain["config"], "objectLayout");
    let loaded = Destination::from_stored(&older, &secrets).unwrap();
    assert_eq!(loaded.to_stored(), (plain, secrets));
}

#[test]
fn the_json_schema_knows_every_key() {
    let schema = crate::json_schema();
    let types = schema["allOf"].as_array().unwrap();
    assert_eq!(types.len(), 17);
    for (kind, rule) in Kind::ALL.into_iter().zip(types) {
        let case = case(kind);
        assert_eq!(rule["if"]["properties"]["type"]["const"], kind.as_str());
        let config = &rule["then"]["properties"]["config"];
        let properties = config["properties"].as_object().unwrap();
        for (key, property) in properties {
            let about = property["description"].as_str().unwrap();
            assert!(!about.is_empty() && !about.starts_with(' '), "{kind} {key}");
        }
        // A caller may send each of `full`, and headers.
        let full = case.full.as_object().unwrap().keys().map(String::as_str);
        let named: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(named, full.chain(["headers"]).collect(), "{kind}");
        for required in config["required"].as_array().unwrap() {
            assert!(case.minimal.get(required.as_str().unwrap()).is_some(), "{kind} {required}");
        }
    }
}
