//! Explanations say what `decide` does, and why.

use super::*;
use crate::Explanation;

fn explain(
    destinations: &[(u32, Arc<Destination>)],
    spans: &[SpanBuilder],
    context: &Context<'_>,
) -> Vec<Explanation> {
    let memory = TraceMemory::default();
    let plan = plan(destinations);
    let traces = request(spans);
    let explained = plan.explain(&traces, context, &memory);
    assert!(memory.is_empty(), "a preview teaches nothing");
    let decision = plan.decide(&traces, context, &memory);
    assert_eq!(explained.len(), destinations.len());
    for one in &explained {
        assert_eq!(one.selected as usize, selected(&decision, one.slot).len());
        assert_eq!(one.skips, skips(&decision, one.slot));
        let route = decision.routes.iter().find(|route| route.slot == one.slot);
        assert_eq!(one.spans.as_ref(), route.map(|route| &route.spans));
        assert!(route.is_none_or(|route| route.private == one.private));
    }
    explained
}

#[test]
fn the_first_failure_is_named() {
    let two_groups = rules(vec![
        (
            Logic::Or,
            vec![
                rule(Field::UserId, Operator::Exists, None),
                rule(Field::Model, Operator::StartsWith, text("acme/")),
            ],
        ),
        (
            Logic::And,
            vec![
                rule(Field::TotalCost, Operator::NotExists, None),
                rule(Field::Model, Operator::Equals, text("x")),
            ],
        ),
    ]);
    let destinations = [
        destination(1, |_| {}),
        destination(2, |d| d.enabled = false),
        destination(3, |d| d.regions = vec![Region::Us, Region::Europe]),
        destination(4, |d| d.api_key_hashes = Some(vec!["00".repeat(32)])),
        destination(5, |d| d.filter_rules = two_groups),
    ];
    let spans = [span(1, 1, 0), generation(1, 2, 1, "acme/large")];
    let keyed = Context { api_key_hash: Some([0xab; 32]), ..at(NOW) };
    let failures: Vec<Option<String>> =
        explain(&destinations, &spans, &keyed).iter().map(Explanation::first_failure).collect();
    assert_eq!(
        failures,
        [
            None,
            Some("enabled: the destination is switched off".into()),
            Some("regions: region global of the request is not one of us, europe".into()),
            Some(
                "api_key_hashes: the key of the request (hash abababab...) is not among the 1 listed".into()
            ),
            Some(r#"filter_rules.groups[1].rules[1]: model equals "x" is false"#.into()),
        ]
    );
    let keyless = explain(&destinations, &spans, &at(NOW));
    assert!(keyless[3].first_failure().unwrap().contains("the request has no key"));
}

#[test]
fn a_false_rule_of_an_or_group_passes_with_the_group() {
    let either = rules(vec![(
        Logic::Or,
        vec![
            rule(Field::Model, Operator::Equals, text("x")),
            rule(Field::TotalTokens, Operator::Gt, FilterValue::Number(1.5)),
        ],
    )]);
    let destinations = [destination(1, |d| d.filter_rules = either)];
    let spans = [generation(1, 1, 0, "m").with("gen_ai.usage.total_tokens", 2)];
    let explained = explain(&destinations, &spans, &at(NOW));
    assert_eq!(explained[0].first_failure(), None);
    let texts: Vec<&str> = explained[0].checks.iter().map(|check| check.text.as_str()).collect();
    assert!(
        texts.contains(&r#"model equals "x" is false"#) && texts.contains(&"total_tokens gt 1.5 is true")
    );
}

#[test]
fn sampling_is_shown_with_its_key() {
    let destinations = [sampled_destination(1, 0.0001), sampled_destination(2, 0.9999)];
    let explained = explain(&destinations, &[generation(1, 1, 0, "m").with("session.id", "s 1")], &at(NOW));
    let failure = explained[0].first_failure().unwrap();
    assert!(failure.starts_with(r#"sampling_rate: session id "s 1" falls at 0."#), "{failure}");
    assert!(failure.ends_with(", not below 0.0001"), "{failure}");
    assert_eq!(explained[1].first_failure(), None);
}

#[test]
fn content_is_never_shown() {
    let by_content = rules(vec![(Logic::And, vec![rule(Field::Input, Operator::Contains, text("word"))])]);
    let span = generation(1, 1, 0, "m").with("gen_ai.prompt", "a secret prompt");
    let explained = explain(&[destination(1, |d| d.filter_rules = by_content)], &[span], &at(NOW));
    assert!(!format!("{explained:?}").contains("secret"));
}
