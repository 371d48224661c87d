//! What the keys spent: windows, restarts, limits.

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::{Gateway, text};
use crate::model::LimitReset::{self, Daily, Monthly, Weekly};
use crate::usage::{DayUsage, Ledger, Sums, next_window, utc_day};
use crate::{KeyUsage, hex};

const KEYS: &str = "/api/v1/keys";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn usage(secret: &str, usd: f64, byok_usd: f64, when: Timestamp) -> KeyUsage {
    KeyUsage {
        hash: hex::sha256(secret),
        cost_nano_usd: (usd * 1e9) as u64,
        byok_nano_usd: (byok_usd * 1e9) as u64,
        events: 1,
        last_used_unix_nano: u64::try_from(when.as_nanosecond()).unwrap(),
    }
}

async fn create(gateway: &Gateway, body: Json) -> (String, String) {
    let (status, answer) = gateway.post(KEYS, &body).await;
    assert_eq!(status, 201, "{answer}");
    (text(&answer["key"]), format!("{KEYS}/{}", text(&answer["data"]["hash"])))
}

/// `[all, day, week, month]` of a prefix.
fn counters(key: &Json, prefix: &str) -> [f64; 4] {
    ["", "_daily", "_weekly", "_monthly"].map(|window| key[format!("{prefix}{window}")].as_f64().unwrap())
}

fn over_limit(gateway: &Gateway, secret: &str) -> bool {
    gateway.snapshot().keys[&hex::sha256(secret)].over_limit
}

#[test]
fn windows_begin_at_midnight_utc_and_weeks_on_monday() {
    // 2026-11-21 is a Saturday; 2027-01-01 a Friday, in the week of Monday 2026-12-28.
    // Each of these spent 1: the day, and what [day, week, month] then show at the time asked.
    let spent = ["2026-10-31", "2026-11-01", "2026-11-15", "2026-11-16", "2026-11-20", "2026-11-21"];
    let ledger = Ledger::default();
    for day in spent {
        let one = Sums { nano_usd: 1, byok_nano_usd: 10, events: 100 };
        // The last millisecond and the first of a day are of that day.
        for time in ["T00:00:00Z", "T23:59:59.999Z"] {
            let last_used = at(&format!("{day}{time}"));
            ledger.add([1; 32], utc_day(last_used), DayUsage { sums: one, last_used });
        }
    }
    let cases = [
        ("2026-11-21T23:59:59.999Z", [2, 6, 10]),
        ("2026-11-22T00:00:00Z", [0, 6, 10]),
        ("2026-11-22T23:59:59Z", [0, 6, 10]),
        ("2026-11-23T00:00:00Z", [0, 0, 10]),
        ("2026-11-30T23:59:59Z", [0, 0, 10]),
        ("2026-12-01T00:00:00Z", [0, 0, 0]),
        ("2027-11-21T12:00:00Z", [0, 0, 0]),
    ];
    let key = ledger.of(&[1; 32]);
    for (now, expected) in cases {
        let shown = [Daily, Weekly, Monthly].map(|window| key.sums(Some(window), at(now)));
        assert_eq!(shown.map(|sums| sums.nano_usd), expected, "{now}");
        assert_eq!(shown.map(|sums| sums.byok_nano_usd), expected.map(|n| n * 10), "{now}");
        assert_eq!(key.sums(None, at(now)), Sums { nano_usd: 12, byok_nano_usd: 120, events: 1200 }, "{now}");
    }
    assert_eq!(key.last_used, Some(at("2026-11-21T23:59:59.999Z")));
    assert_eq!(ledger.of(&[2; 32]).sums(None, at(cases[0].0)), Sums::default());
}

#[test]
fn a_week_over_the_turn_of_the_year_and_late_sums() {
    let ledger = Ledger::default();
    let add = |when: &str, nano_usd: u64| {
        let sums = Sums { nano_usd, ..Sums::default() };
        ledger.add([1; 32], utc_day(at(when)), DayUsage { sums, last_used: at(when) });
    };
    add("2026-12-28T00:00:00Z", 1);
    add("2026-12-31T23:59:59Z", 2);
    add("2027-01-01T00:00:00Z", 4);
    // Comes after midnight and is of the day before.
    add("2026-12-31T23:59:59.999Z", 8);
    let key = ledger.of(&[1; 32]);
    let now = at("2027-01-03T12:00:00Z");
    assert_eq!(key.sums(Some(Weekly), now).nano_usd, 15);
    assert_eq!(key.sums(Some(Monthly), now).nano_usd, 4);
    assert_eq!(key.sums(Some(Daily), at("2027-01-01T12:00:00Z")).nano_usd, 4);
    assert_eq!(key.sums(None, now).nano_usd, 15);
    assert_eq!(key.last_used, Some(at("2027-01-01T00:00:00Z")));
}

#[test]
fn the_next_window_begins_at_a_midnight() {
    let cases = [
        ("2026-11-21T08:48:00Z", Daily, "2026-11-22T00:00:00Z"),
        ("2026-11-21T08:48:00Z", Weekly, "2026-11-23T00:00:00Z"),
        ("2026-11-22T23:59:59Z", Weekly, "2026-11-23T00:00:00Z"),
        ("2026-11-23T00:00:00Z", Weekly, "2026-11-30T00:00:00Z"),
        ("2026-11-21T08:48:00Z", Monthly, "2026-12-01T00:00:00Z"),
        ("2026-12-31T23:59:59Z", Monthly, "2027-01-01T00:00:00Z"),
        ("2028-02-29T00:00:00Z", Monthly, "2028-03-01T00:00:00Z"),
    ];
    for (now, length, next) in cases {
        assert_eq!(next_window(length, at(now)), Some(at(next)), "{now} {length:?}");
    }
}

#[tokio::test]
async fn usage_is_shown_and_survives_a_restart() {
    let gateway = Gateway::new().await;
    let (secret, path) = create(&gateway, json!({ "name": "app", "limit": 100 })).await;
    let now = Timestamp::now();
    let long_ago = at("2020-02-29T12:00:00Z");
    let counted = vec![
        usage(&secret, 0.5, 2.0, long_ago),
        usage(&secret, 1.0, 0.25, now),
        usage(&secret, 0.1, 0.0, now),
    ];
    gateway.control.record_usage(counted).await.unwrap();
    let expected = [1.6, 1.1, 1.1, 1.1];
    let check = |key: &Json| {
        assert_eq!(counters(key, "usage"), expected, "{key}");
        assert_eq!(counters(key, "byok_usage"), [2.25, 0.25, 0.25, 0.25], "{key}");
        assert_eq!(key["limit_remaining"], 98.4, "{key}");
    };
    let before = gateway.ok(&path).await["data"].clone();
    check(&before);
    let last_used = Timestamp::from_second(now.as_second()).unwrap();
    assert_eq!(at(&text(&before["last_used_at"])), last_used);
    check(&gateway.ok(KEYS).await["data"][0]);
    let (_, own) = gateway.call_as(Some(&secret), "GET", "/api/v1/key", None).await;
    check(&own["data"]);
    let budget = &own["data"]["budgets"][0];
    assert_eq!((budget["spend_usd"].clone(), budget["remaining_usd"].clone()), (json!(1.6), json!(98.4)));
    assert_eq!(own["data"]["effective_budget"], *budget);

    let gateway = gateway.restart().await;
    assert_eq!(gateway.ok(&path).await["data"], before, "counted on where it stood");
    gateway.control.record_usage(vec![usage(&secret, 0.4, 0.0, now)]).await.unwrap();
    let gateway = gateway.restart().await;
    assert_eq!(gateway.ok(&path).await["data"]["usage"], 2.0);
}

#[tokio::test]
async fn only_keys_that_exist_are_counted_and_a_deleted_one_keeps_its_past() {
    let gateway = Gateway::new().await;
    let secret = "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";
    let body = json!({ "name": "upstream", "external": { "user": "u", "api_key": secret } });
    let now = Timestamp::now();
    gateway.control.record_usage(vec![usage(secret, 5.0, 0.0, now)]).await.unwrap();
    let key = gateway.created(KEYS, &body).await;
    assert_eq!(counters(&key, "usage"), [0.0; 4], "not known then");
    assert_eq!(key["last_used_at"], Json::Null);
    gateway.control.record_usage(vec![usage(secret, 1.0, 0.0, now)]).await.unwrap();
    assert_eq!(gateway.delete(&format!("{KEYS}/{}", text(&key["hash"]))).await.0, 200);
    let gateway = gateway.restart().await;
    let again = gateway.created(KEYS, &body).await;
    assert_eq!(again["usage"], 1.0, "the same hash, the same past");
}

#[tokio::test]
async fn a_spent_limit_is_told_to_the_data_plane() {
    let gateway = Gateway::new().await;
    let now = Timestamp::now();
    let (secret, path) = create(&gateway, json!({ "name": "app", "limit": 1 })).await;
    let before = gateway.snapshot().generation;
    gateway.control.record_usage(vec![usage(&secret, 0.999, 50.0, now)]).await.unwrap();
    assert!(!over_limit(&gateway, &secret));
    gateway.control.record_usage(vec![usage(&secret, 0.001, 0.0, now)]).await.unwrap();
    assert!(over_limit(&gateway, &secret), "nothing is left");
    assert_eq!(gateway.snapshot().generation, before, "no configuration changed");
    assert_eq!(gateway.ok(&path).await["data"]["limit_remaining"], 0.0);

    // What changes the limit is judged with the write, also after a restart.
    for (change, is_over) in [
        (json!({ "limit": 2 }), false),
        (json!({ "include_byok_in_limit": true }), true),
        (json!({ "limit": null }), false),
        (json!({ "limit": 0.5, "include_byok_in_limit": false }), true),
    ] {
        assert_eq!(gateway.patch(&path, &change).await.0, 200);
        assert_eq!(over_limit(&gateway, &secret), is_over, "{change}");
    }
    let gateway = gateway.restart().await;
    assert!(over_limit(&gateway, &secret));
    let (status, own) = gateway.call_as(Some(&secret), "GET", "/api/v1/key", None).await;
    assert_eq!(status, 200, "a spent key may still ask");
    assert_eq!(own["data"]["effective_budget"]["remaining_usd"], -0.5);
    assert_eq!(own["data"]["effective_budget"]["resets_at"], Json::Null);
}

#[tokio::test]
async fn a_limit_is_given_back_when_its_window_ends() {
    // Friday; the week ends with Sunday the 22nd, the month with the 30th.
    let spent_at = at("2026-11-20T12:00:00Z");
    let cases: [(Option<LimitReset>, &str, &str); 4] = [
        (Some(Daily), "2026-11-20T23:59:59Z", "2026-11-21T00:00:00Z"),
        (Some(Weekly), "2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z"),
        (Some(Monthly), "2026-11-30T23:59:59Z", "2026-12-01T00:00:00Z"),
        (None, "2030-01-01T00:00:00Z", ""),
    ];
    for (reset, still, free) in cases {
        let gateway = Gateway::new().await;
        let name = reset.map(|reset| crate::model::wire_name(LimitReset::ALL, &reset));
        let (secret, _) = create(&gateway, json!({ "name": "app", "limit": 1, "limit_reset": name })).await;
        gateway.control.record_usage_at(vec![usage(&secret, 1.0, 0.0, spent_at)], spent_at).await.unwrap();
        assert!(over_limit(&gateway, &secret), "{reset:?}");
        gateway.control.record_usage_at(Vec::new(), at(still)).await.unwrap();
        assert!(over_limit(&gateway, &secret), "{reset:?} at {still}");
        if free.is_empty() {
            continue;
        }
        gateway.control.record_usage_at(Vec::new(), at(free)).await.unwrap();
        assert!(!over_limit(&gateway, &secret), "{reset:?} at {free}");
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_shown_and_stored_later_once() {
    let gateway = Gateway::new().await;
    let (secret, path) = create(&gateway, json!({ "name": "app" })).await;
    let file = sqlx::sqlite::SqliteConnectOptions::new().filename(gateway.dir.path().join("control.sqlite"));
    let other = sqlx::sqlite::SqlitePool::connect_with(file).await.unwrap();
    sqlx::query("ALTER TABLE key_usage RENAME TO hidden").execute(&other).await.unwrap();
    let now = Timestamp::now();
    assert!(gateway.control.record_usage(vec![usage(&secret, 1.0, 0.0, now)]).await.is_err());
    assert_eq!(gateway.ok(&path).await["data"]["usage"], 1.0);
    sqlx::query("ALTER TABLE hidden RENAME TO key_usage").execute(&other).await.unwrap();
    other.close().await;
    gateway.control.record_usage(Vec::new()).await.unwrap();
    gateway.control.record_usage(Vec::new()).await.unwrap();
    let gateway = gateway.restart().await;
    assert_eq!(gateway.ok(&path).await["data"]["usage"], 1.0);
}

#[tokio::test]
async fn absurd_sums_stop_nothing() {
    let gateway = Gateway::new().await;
    let (secret, path) = create(&gateway, json!({ "name": "app", "limit": 1e300 })).await;
    let most = KeyUsage {
        hash: hex::sha256(&secret),
        cost_nano_usd: u64::MAX,
        byok_nano_usd: u64::MAX,
        events: u64::MAX,
        last_used_unix_nano: 1_790_000_000_000_000_000,
    };
    for days in 0..200u64 {
        let at = most.last_used_unix_nano + days * 86_400_000_000_000;
        let one = KeyUsage { last_used_unix_nano: at, ..most.clone() };
        gateway.control.record_usage(vec![one.clone(), one]).await.unwrap();
    }
    let never = KeyUsage { last_used_unix_nano: u64::MAX, ..most };
    gateway.control.record_usage(vec![never]).await.unwrap();
    let gateway = gateway.restart().await;
    assert!(gateway.ok(&path).await["data"]["usage"].as_f64().unwrap() > 1e9);
    assert!(!over_limit(&gateway, &secret));
}
