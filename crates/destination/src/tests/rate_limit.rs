//! The rate limit: what is taken, how it is shown, how it is cleared.

use super::*;
use crate::RateLimit;

fn langfuse() -> Json {
    body(Kind::Langfuse, &case(Kind::Langfuse).minimal)
}

fn with_limit(limit: Json) -> Json {
    with(&langfuse(), json!({ "rate_limit": limit }))
}

#[test]
fn one_of_two_units() {
    for (limit, expected) in [
        (json!({"spans_per_second": 100}), RateLimit::SpansPerSecond(100.0)),
        (json!({"requests_per_second": 0.5}), RateLimit::RequestsPerSecond(0.5)),
    ] {
        let made = create(&with_limit(limit.clone())).unwrap();
        assert_eq!(made.rate_limit, Some(expected));
        assert_eq!(made.to_json()["rate_limit"].as_object().unwrap().len(), 1);
        let again = create(&with_limit(made.to_json()["rate_limit"].clone())).unwrap();
        assert_eq!(again.rate_limit, made.rate_limit);
        let (plain, secrets) = made.to_stored();
        assert_eq!(Destination::from_stored(&plain, &secrets).unwrap().rate_limit, made.rate_limit);
    }
}

#[test]
fn nothing_is_said_of_a_limit_that_is_not_set() {
    for body in [langfuse(), with_limit(Json::Null)] {
        let made = create(&body).unwrap();
        assert_eq!(made.rate_limit, None);
        assert!(made.to_json().get("rate_limit").is_none(), "upstream's shape");
    }
}

#[test]
fn a_patch_keeps_changes_and_clears_it() {
    let made = create(&with_limit(json!({"spans_per_second": 100}))).unwrap();
    let patch = |body: Json| made.patch(&body, made.updated_at).unwrap().rate_limit;
    assert_eq!(patch(json!({"name": "x"})), made.rate_limit);
    assert_eq!(
        patch(json!({"rate_limit": {"requests_per_second": 2}})),
        Some(RateLimit::RequestsPerSecond(2.0))
    );
    assert_eq!(patch(json!({"rate_limit": null})), None);
}

#[test]
fn mistakes_are_told() {
    for wrong in [
        json!(5),
        json!({}),
        json!({"spans_per_second": 1, "requests_per_second": 1}),
        json!({"spans_per_second": 0}),
        json!({"spans_per_second": -1}),
        json!({"spans_per_second": 1e7}),
        json!({"spans_per_second": "many"}),
        json!({"events_per_second": 1}),
    ] {
        sole(create(&with_limit(wrong)), "rate_limit");
    }
}
