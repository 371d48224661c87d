//! Signing secrets of webhooks: their form, and what a change leaves signing.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;

use super::*;
use crate::signing_key;

fn secret(byte: u8, bytes: usize) -> String {
    format!("whsec_{}", STANDARD.encode(vec![byte; bytes]))
}

fn webhook(secret: Option<&str>) -> Destination {
    let mut config = case(Kind::Webhook).minimal;
    if let Some(secret) = secret {
        config["signingSecret"] = json!(secret);
    }
    created(Kind::Webhook, &config)
}

fn patched(before: &Destination, secret: Json, after_hours: i64) -> Destination {
    let at = now() + SignedDuration::from_hours(after_hours);
    before.patch(&json!({"config": {"signingSecret": secret}}), at).unwrap()
}

/// What signs besides the current secret, and until when, in hours from `now()`.
fn former(destination: &Destination) -> Vec<(String, i64)> {
    let (_, secrets) = destination.to_stored();
    let entries = secrets["previousSigningSecrets"].as_array().cloned().unwrap_or_default();
    let hours = |until: &Json| until.as_str().unwrap().parse::<Timestamp>().unwrap().duration_since(now());
    let entry = |e: &Json| (e["secret"].as_str().unwrap().to_owned(), hours(&e["signsUntil"]).as_hours());
    entries.iter().map(entry).collect()
}

#[test]
fn a_secret_is_whsec_and_24_to_64_bytes() {
    for bytes in [24, 25, 32, 64] {
        let text = secret(7, bytes);
        assert_eq!(signing_key(&text).unwrap().as_slice(), vec![7; bytes]);
        webhook(Some(&text));
    }
    for bad in [
        secret(7, 23),
        secret(7, 65),
        "whsec_".to_owned(),
        STANDARD.encode([7; 32]),
        format!("WHSEC_{}", STANDARD.encode([7; 32])),
        format!("whsec_{}", "_-".repeat(20)),
        format!("whsec_{}", STANDARD.encode([7; 32]).trim_end_matches('=')),
        format!("whsec_{}\n", STANDARD.encode([7; 32])),
        "whsec_ä".to_owned(),
    ] {
        let config = with(&case(Kind::Webhook).minimal, json!({"signingSecret": bad}));
        let issue = sole(create(&body(Kind::Webhook, &config)), "config.signingSecret");
        assert!(!issue.to_string().contains(bad.trim()) || bad == "whsec_", "{issue}");
    }
}

#[test]
fn a_replaced_secret_signs_for_24_hours() {
    let (a, b, c) = (secret(1, 32), secret(2, 32), secret(3, 32));
    let first = webhook(Some(&a));
    assert_eq!(former(&first), []);
    let second = patched(&first, json!(b), 0);
    assert_eq!(former(&second), [(a.clone(), 24)]);
    // Another edit changes nothing, also when the whole object is sent back.
    let edited = second.patch(&json!({"name": "other"}), now()).unwrap();
    assert_eq!(former(&edited), former(&second));
    let back = second.patch(&second.to_json(), now() + SignedDuration::from_hours(1)).unwrap();
    assert_eq!(former(&back), former(&second));
    // A second change within the day keeps both: a receiver may still know only the first.
    let third = patched(&second, json!(c), 23);
    assert_eq!(former(&third), [(b.clone(), 47), (a.clone(), 24)]);
    // Going back to a former secret does not sign with it twice.
    let undone = patched(&second, json!(a), 2);
    assert_eq!(former(&undone), [(b.clone(), 26)]);
    // What is over goes with the next change.
    assert_eq!(former(&patched(&third, json!(a), 24)), [(c, 48), (b, 47)]);
    // The number is bounded, the newest stay.
    let many = (4..10).fold(first, |before, n| patched(&before, json!(secret(n, 32)), 1));
    assert_eq!(former(&many), [(secret(8, 32), 25), (secret(7, 32), 25), (secret(6, 32), 25)]);
}

#[test]
fn without_a_secret_nothing_signs() {
    let signed = patched(&webhook(Some(&secret(1, 32))), json!(secret(2, 32)), 0);
    assert_eq!(former(&patched(&signed, Json::Null, 1)), []);
    let added = patched(&webhook(None), json!(secret(2, 32)), 0);
    assert_eq!(former(&added), []);
}

#[test]
fn former_secrets_survive_storage_and_are_shown_masked() {
    let a = "whsec_AAAAbbbbCCCCddddEEEEffffGGGGhhhh";
    let destination = patched(&webhook(Some(a)), json!(secret(2, 32)), 0);
    let (plain, secrets) = destination.to_stored();
    assert!(!plain.to_string().contains("AAAAbbbb"));
    let again = Destination::from_stored(&plain, &secrets).unwrap();
    assert_eq!(former(&again), [(a.to_owned(), 24)]);
    let shown = destination.to_json()["config"]["previousSigningSecrets"].clone();
    assert_eq!(shown, json!([{"secret": "whse...hhhh", "signsUntil": "2026-09-06T08:24:27.107456789Z"}]));
    assert!(!format!("{destination:?}").contains("hhhh"));
}

#[test]
fn former_secrets_are_not_the_callers_to_set() {
    let forged = json!([{"secret": secret(9, 32), "signsUntil": "2099-01-01T00:00:00Z"}]);
    let config = with(&case(Kind::Webhook).full, json!({"previousSigningSecrets": forged}));
    sole(create(&body(Kind::Webhook, &config)), "config.previousSigningSecrets");
    let patch = json!({"config": {"previousSigningSecrets": forged}});
    let destination = created(Kind::Webhook, &case(Kind::Webhook).full);
    assert_eq!(former(&destination.patch(&patch, now()).unwrap()), []);
}

#[test]
fn a_destination_read_anew_takes_them_over() {
    let before = webhook(Some(&secret(1, 32)));
    let mut anew = webhook(Some(&secret(2, 32)));
    anew.succeed(&before, now());
    assert_eq!(former(&anew), [(secret(1, 32), 24)]);
    // And again when nothing has changed since.
    let mut same = webhook(Some(&secret(2, 32)));
    same.succeed(&anew, now() + SignedDuration::from_hours(3));
    assert_eq!(former(&same), former(&anew));
}
