//! The fields beside `config`: creation, defaults, the answer's shape, ids, file destinations.
use super::*;
use crate::file_destination_id;

fn langfuse() -> Json {
    body(Kind::Langfuse, &case(Kind::Langfuse).minimal)
}

#[test]
fn the_answer_has_exactly_the_fields_of_the_contract() {
    let answer = create(&langfuse()).unwrap().to_json();
    let expected = json!({
        "id": "11112222-3333-4444-5555-666677778888",
        "type": "langfuse",
        "name": "n",
        "workspace_id": DEFAULT_WORKSPACE_ID.to_string(),
        "enabled": true,
        "privacy_mode": false,
        "sampling_rate": 1,
        "api_key_hashes": null,
        "filter_rules": null,
        "regions": ["global"],
        "broadcast_generation_cost": false,
        "broadcast_generation_identity": false,
        "broadcast_generation_request_context": false,
        "broadcast_generation_cost_allocation": false,
        "config": {
            "publicKey": "pk-l...EfGh",
            "secretKey": "sk-l...AbCd",
            "baseUrl": "https://us.cloud.langfuse.com",
        },
        "managed_by": "api",
        "created_at": "2026-09-05T08:24:27.107Z",
        "updated_at": "2026-09-05T08:24:27.107Z",
    });
    assert_eq!(answer, expected);
}

#[test]
fn every_field_is_taken_over() {
    let given = json!({
        "enabled": false,
        "privacy_mode": true,
        "sampling_rate": 0.25,
        "api_key_hashes": ["AB".repeat(32), "ab".repeat(32), "01".repeat(32)],
        "filter_rules": {"groups": []},
        "regions": ["us", "eu", "europe"],
        "broadcast_generation_cost": true,
        "broadcast_generation_identity": true,
        "broadcast_generation_request_context": true,
        "broadcast_generation_cost_allocation": true,
        "workspace_id": "9B9B9B9B-0000-4000-8000-000000000001",
    });
    let answer = create(&with(&langfuse(), given.clone())).unwrap().to_json();
    let expected = with(
        &given,
        json!({
            "api_key_hashes": ["ab".repeat(32), "01".repeat(32)],
            "filter_rules": {"enabled": true, "groups": []},
            "regions": ["us", "europe"],
            "workspace_id": "9b9b9b9b-0000-4000-8000-000000000001",
        }),
    );
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&answer[key], value, "{key}");
    }
}

#[test]
fn bodies_that_are_no_object_or_lack_fields_are_refused() {
    for bad in [json!(null), json!([]), json!("x"), json!(1)] {
        sole(create(&bad), "body");
    }
    let paths: Vec<String> = create(&json!({})).unwrap_err().into_iter().map(|i| i.path).collect();
    assert_eq!(paths, ["type", "name", "config"]);
}

#[test]
fn an_unknown_type_gets_a_suggestion() {
    let issue = sole(create(&with(&langfuse(), json!({"type": "langfsue"}))), "type");
    assert_eq!(issue.hint.as_deref(), Some("did you mean \"langfuse\"?"));
    let issue = sole(create(&with(&langfuse(), json!({"type": "bigquery"}))), "type");
    assert!(issue.message.contains("otel-collector") && issue.message.contains("\"bigquery\""));
}

#[test]
fn wrong_types_of_every_field_are_reported_and_none_panics() {
    let fields = [
        "type",
        "name",
        "workspace_id",
        "enabled",
        "privacy_mode",
        "sampling_rate",
        "api_key_hashes",
        "filter_rules",
        "regions",
        "rate_limit",
        "retry",
        "broadcast_generation_cost",
        "broadcast_generation_identity",
        "broadcast_generation_request_context",
        "broadcast_generation_cost_allocation",
    ];
    for field in fields {
        for bad in [json!({"x": [null]}), json!([[]]), json!(-1e300), json!("x\u{0}y"), json!("")] {
            let result = create(&with(&langfuse(), json!({ field: bad.clone() })));
            let issues = result.err().unwrap_or_else(|| panic!("{field}: {bad}"));
            assert!(issues.iter().all(|issue| issue.path.starts_with(field)), "{issues:?}");
        }
        if !matches!(field, "api_key_hashes" | "filter_rules" | "rate_limit" | "retry") {
            sole(create(&with(&langfuse(), json!({ field: null }))), field);
        }
    }
}

#[test]
fn all_problems_come_at_once() {
    let issues = create(&json!({
        "type": "langfuse", "name": 1, "enabled": "yes", "sampling_rate": 2, "regions": ["mars"],
        "api_key_hashes": ["x"], "filter_rules": {"groups": [{"rules": [{"field": "x"}]}]},
        "config": {"secretKey": 1, "basUrl": "", "headers": {"Host": "x"}},
    }))
    .unwrap_err();
    let mut paths: Vec<&str> = issues.iter().map(|issue| issue.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "api_key_hashes[0]",
            "config.basUrl",
            "config.headers.Host",
            "config.publicKey",
            "config.secretKey",
            "enabled",
            "filter_rules.groups[0].rules[0].field",
            "filter_rules.groups[0].rules[0].operator",
            "name",
            "regions[0]",
            "sampling_rate",
        ]
    );
    for issue in issues {
        let first = issue.message.chars().next().unwrap();
        assert!(first.is_lowercase() && !issue.message.ends_with('.'), "{issue}");
    }
}

#[test]
fn sampling_rate_bounds() {
    for bad in [json!(0), json!(0.0), json!(0.00009), json!(1.01), json!(-0.5), json!(25), json!("0.5")] {
        sole(create(&with(&langfuse(), json!({"sampling_rate": bad}))), "sampling_rate");
    }
    for good in [json!(0.0001), json!(0.5), json!(1), json!(1.0)] {
        let made = create(&with(&langfuse(), json!({"sampling_rate": good}))).unwrap();
        assert_eq!(made.to_json()["sampling_rate"].as_f64(), good.as_f64());
    }
}

#[test]
fn eu_is_europe_and_regions_are_never_empty() {
    let made = create(&with(&langfuse(), json!({"regions": ["eu"]}))).unwrap();
    assert_eq!(made.to_json()["regions"], json!(["europe"]));
    sole(create(&with(&langfuse(), json!({"regions": []}))), "regions");
    sole(create(&with(&langfuse(), json!({"regions": ["us", 1]}))), "regions[1]");
    sole(create(&with(&langfuse(), json!({"regions": "eu"}))), "regions");
}

#[test]
fn key_hashes_are_hashes() {
    let with_hashes = |hashes: Json| create(&with(&langfuse(), json!({"api_key_hashes": hashes})));
    assert_eq!(with_hashes(json!(null)).unwrap().api_key_hashes, None);
    sole(with_hashes(json!([])), "api_key_hashes");
    sole(with_hashes(json!(["ab".repeat(32), "g".repeat(64)])), "api_key_hashes[1]");
    sole(with_hashes(json!(["é".repeat(32)])), "api_key_hashes[0]");
    sole(with_hashes(json!([7])), "api_key_hashes[0]");
    let key = "sk-or-v1-0123456789abcdef0123456789abcdef0123456789abcdef01234567";
    let issue = sole(with_hashes(json!([key])), "api_key_hashes[0]");
    assert!(issue.hint.as_deref().unwrap().contains("sha256sum"), "{issue}");
    assert!(!issue.to_string().contains(key));
}

#[test]
fn unknown_fields_beside_the_config_are_ignored() {
    let more = with(&langfuse(), json!({"state": "active", "id": "whatever", "created_at": 1}));
    assert_eq!(create(&more).unwrap().id, ID);
}

#[test]
fn file_destinations_have_stable_ids() {
    let from_file = |body: &Json| Destination::create(body, defaults(ManagedBy::File));
    let made = from_file(&langfuse()).unwrap();
    assert_eq!(made.id, file_destination_id(DEFAULT_WORKSPACE_ID, Kind::Langfuse, "n"));
    assert_eq!(made.id.get_version_num(), 5);
    assert_eq!(made.to_json()["managed_by"], "file");
    let other = Uuid::from_u128(7);
    for (workspace, kind, name) in [
        (other, Kind::Langfuse, "n"),
        (DEFAULT_WORKSPACE_ID, Kind::Weave, "n"),
        (DEFAULT_WORKSPACE_ID, Kind::Langfuse, "m"),
    ] {
        assert_ne!(file_destination_id(workspace, kind, name), made.id);
    }
    let named = from_file(&with(&langfuse(), json!({"id": other.to_string()}))).unwrap();
    assert_eq!(named.id, other);
    sole(from_file(&with(&langfuse(), json!({"id": "seven"}))), "id");
    // a slug is resolved by the caller
    let slug = from_file(&with(&langfuse(), json!({"workspace_id": "team-a"}))).unwrap();
    assert_eq!(slug.workspace_id, DEFAULT_WORKSPACE_ID);
    sole(create(&with(&langfuse(), json!({"workspace_id": "team-a"}))), "workspace_id");
}

#[test]
fn times_have_milliseconds() {
    for (time, shown) in [
        ("2026-09-05T08:24:27Z", "2026-09-05T08:24:27.000Z"),
        ("2026-09-05T08:24:27.9999Z", "2026-09-05T08:24:27.999Z"),
    ] {
        let defaults = CreateDefaults { now: time.parse().unwrap(), ..defaults(ManagedBy::Api) };
        let made = Destination::create(&langfuse(), defaults).unwrap();
        assert_eq!(made.to_json()["created_at"], shown);
    }
}
