//! The retry option: what is taken, how it is shown, how it is cleared.

use super::*;
use crate::Retry;

fn with_retry(retry: Json) -> Json {
    with(&body(Kind::Webhook, &case(Kind::Webhook).minimal), json!({ "retry": retry }))
}

#[test]
fn backoff_unless_the_schedule_is_asked_for_and_then_nothing_is_said_of_it() {
    let plain = body(Kind::Webhook, &case(Kind::Webhook).minimal);
    for body in [plain, with_retry(Json::Null), with_retry(json!("backoff"))] {
        let made = create(&body).unwrap();
        assert_eq!(made.retry, Retry::Backoff);
        assert!(made.to_json().get("retry").is_none(), "upstream's shape");
    }
    let made = create(&with_retry(json!("schedule"))).unwrap();
    assert_eq!(made.retry, Retry::Schedule);
    assert_eq!(made.to_json()["retry"], "schedule");
    let (plain, secrets) = made.to_stored();
    assert_eq!(Destination::from_stored(&plain, &secrets).unwrap().retry, Retry::Schedule);
}

#[test]
fn a_patch_keeps_changes_and_clears_it() {
    let made = create(&with_retry(json!("schedule"))).unwrap();
    let patch = |body: Json| made.patch(&body, made.updated_at).unwrap().retry;
    assert_eq!(patch(json!({"name": "x"})), Retry::Schedule);
    assert_eq!(patch(json!({"retry": "backoff"})), Retry::Backoff);
    assert_eq!(patch(json!({"retry": null})), Retry::Backoff);
}

#[test]
fn mistakes_are_told() {
    for wrong in [json!("scheduled"), json!(5), json!({}), json!(["schedule"])] {
        sole(create(&with_retry(wrong)), "retry");
    }
}
