//! Canary: a secret shows up nowhere but in the sealed half of the stored form.
use super::*;

const CANARY: &str = "CANARYvalueNeverSeen";

#[test]
fn secrets_are_only_in_the_sealed_half() {
    for case in cases() {
        let mut config = with(&case.full, json!({"headers": {"X-Canary": CANARY}}));
        for key in case.secret {
            config[*key] = match *key {
                "dsn" => json!(format!("https://{CANARY}@sentry.example.com/7")),
                "signingSecret" => json!(format!("whsec_{CANARY}{CANARY}")),
                _ => json!(CANARY),
            };
        }
        match case.kind {
            Kind::Webhook => {
                config["url"] = json!(format!("https://{CANARY}:{CANARY}@h/p?{CANARY}&a={CANARY}"));
            }
            Kind::OtelCollector => {
                config["endpoint"] = json!(format!("https://u:{CANARY}@h/v1/traces"));
            }
            _ => {}
        }
        let destination = created(case.kind, &config);
        let (plain, secrets) = destination.to_stored();
        let shown = [
            destination.to_json().to_string(),
            plain.to_string(),
            format!("{destination:?} {destination:#?}"),
            format!("{:?} {:#?}", destination.config, destination.config),
        ];
        for text in shown {
            assert!(!text.contains(CANARY), "{}: {text}", case.kind);
        }
        for key in case.secret.iter().chain([&"headers"]) {
            assert!(secrets[*key].to_string().contains(CANARY), "{} {key}", case.kind);
        }
    }
}

#[test]
fn debug_hides_even_the_masked_parts_and_query_values() {
    let config = json!({"endpoint": "http://h/v1/traces?api_key=0123456789abcdef"});
    let text = format!("{:?}", created(Kind::OtelCollector, &config).config);
    assert!(text.contains("http://h/v1/traces?api_key=***"), "{text}");
    let text = format!("{:?}", created(Kind::Langfuse, &case(Kind::Langfuse).minimal).config);
    assert!(!text.contains("pk-l") && text.contains("us.cloud.langfuse.com"), "{text}");
}

#[test]
fn issues_never_quote_a_secret() {
    for case in cases() {
        for key in case.secret {
            for bad in [
                json!(format!("{CANARY} {CANARY}")),
                json!(format!("{CANARY}\n")),
                json!([CANARY]),
                json!({"a": CANARY}),
            ] {
                let config = with(&case.full, json!({ *key: bad }));
                if let Err(issues) = create(&body(case.kind, &config)) {
                    assert!(!format!("{issues:?}").contains(CANARY), "{issues:?}");
                }
            }
        }
        for (key, value) in case.full.as_object().unwrap() {
            if value.as_str().is_some_and(|text| text.starts_with("http")) {
                for bad in [
                    format!("https://u:{CANARY}@"),
                    format!("ftp://u:{CANARY}@h"),
                    format!("https://u:{CANARY}@h/#x"),
                    format!("{CANARY}:{CANARY}@h"),
                ] {
                    let config = with(&case.full, json!({ key: bad }));
                    let issues = refused(case.kind, &config);
                    assert!(!format!("{issues:?}").contains(CANARY), "{issues:?}");
                }
            }
        }
        let headers = json!({"headers": {"X-A": format!("{CANARY}\n"), "X-B": [CANARY]}});
        let issues = refused(case.kind, &with(&case.full, headers));
        assert_eq!(issues.len(), 2);
        assert!(!format!("{issues:?}").contains(CANARY));
    }
}
