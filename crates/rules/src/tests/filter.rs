//! Every operator on every class of field, and what is refused at compile time.

use super::*;
use crate::filter::Filter;
use Field::*;
use Operator::*;
use proptest::prelude::*;

/// Whether a lone span passes a lone rule.
fn holds(span: &SpanBuilder, rule: FilterRule) -> bool {
    holds_with(span, rule, None)
}

fn holds_with(span: &SpanBuilder, rule: FilterRule, api_key_name: Option<&str>) -> bool {
    let plan = plan(&[destination(1, |d| d.filter_rules = rules(vec![(Logic::And, vec![rule])]))]);
    let context = Context { api_key_name, ..at(NOW) };
    let decision = plan.decide(&request(std::slice::from_ref(span)), &context, &TraceMemory::default());
    assert_balanced(&decision, &[1], 1);
    !decision.routes.is_empty()
}

const NEGATIVE: [Operator; 3] = [NotEquals, NotContains, NotExists];
const TEXT_OPERATORS: [Operator; 9] =
    [Equals, NotEquals, Contains, NotContains, Regex, StartsWith, EndsWith, Exists, NotExists];
const NUMBER_OPERATORS: [Operator; 8] = [Equals, NotEquals, Gt, Lt, Gte, Lte, Exists, NotExists];
const TEXT_FIELDS: [Field; 8] = [Model, Provider, SessionId, UserId, ApiKeyName, FinishReason, Input, Output];
const NUMBER_FIELDS: [Field; 4] = [TotalCost, TotalTokens, PromptTokens, CompletionTokens];

/// A generation that says everything.
fn full() -> SpanBuilder {
    span(1, 1, 0)
        .with("gen_ai.operation.name", "chat")
        .with("gen_ai.request.model", "acme/large")
        .with("gen_ai.response.model", "acme/large-2026")
        .with("trace.metadata.openrouter.provider_name", "Amazon Bedrock")
        .with("trace.metadata.openrouter.provider_slug", "amazon-bedrock/global")
        .with("session.id", "session-7")
        .with("user.id", "Ünal")
        .with("trace.metadata.openrouter.api_key_name", "own key")
        .with("gen_ai.response.finish_reason", "stop")
        .with("gen_ai.prompt", r#"{"messages":[{"role":"user","content":"where is the cat"}]}"#)
        .with("gen_ai.completion", r#"{"completion":"on the mat"}"#)
        .with("gen_ai.usage.total_cost", 0.5)
        .with("gen_ai.usage.input_tokens", 100)
        .with("gen_ai.usage.output_tokens", 20)
        .with("gen_ai.usage.total_tokens", 120)
}

/// A generation that says nothing.
fn bare() -> SpanBuilder {
    span(1, 1, 0).with("gen_ai.operation.name", "chat")
}

#[test]
fn text_operators() {
    let table: &[(Field, Operator, &str, bool)] = &[
        (UserId, Equals, "Ünal", true),
        (UserId, Equals, "ünal", false),
        (UserId, Equals, "Üna", false),
        (UserId, NotEquals, "Ünal", false),
        (UserId, NotEquals, "ünal", true),
        (UserId, Contains, "na", true),
        (UserId, Contains, "NA", false),
        (UserId, Contains, "", true),
        (UserId, NotContains, "na", false),
        (UserId, NotContains, "NA", true),
        (UserId, Regex, "n.l", true),
        (UserId, Regex, "^n.l", false),
        (UserId, Regex, "N.L", false),
        (UserId, Regex, "(?i)N.L$", true),
        (UserId, StartsWith, "Ü", true),
        (UserId, StartsWith, "n", false),
        (UserId, EndsWith, "nal", true),
        (UserId, EndsWith, "n", false),
        (SessionId, Equals, "session-7", true),
        (SessionId, StartsWith, "session-", true),
        (SessionId, NotEquals, "session-8", true),
        (FinishReason, Equals, "stop", true),
        (FinishReason, NotEquals, "stop", false),
        (ApiKeyName, Equals, "own key", true),
        (ApiKeyName, EndsWith, "KEY", false),
        (Input, Contains, "the cat", true),
        (Input, NotContains, "the cat", false),
        (Input, Contains, "the mat", false),
        (Input, Regex, r"\bcat$", true),
        (Output, Contains, "the mat", true),
        (Output, Equals, "on the mat", true),
        (Output, NotContains, "the cat", true),
    ];
    for (field, operator, value, expected) in table {
        let actual = holds(&full(), rule(*field, *operator, text(value)));
        assert_eq!(actual, *expected, "{field:?} {operator:?} {value:?}");
    }
}

#[test]
fn either_model_matches_and_a_negative_rule_needs_both_to_differ() {
    let table = [
        (Equals, "acme/large", true),
        (Equals, "acme/large-2026", true),
        (Equals, "acme", false),
        (NotEquals, "acme/large", false),
        (NotEquals, "acme/large-2026", false),
        (NotEquals, "acme", true),
        (Contains, "2026", true),
        (NotContains, "2026", false),
        (NotContains, "large", false),
        (NotContains, "small", true),
        (EndsWith, "large", true),
        (Regex, "2026$", true),
    ];
    for (operator, value, expected) in table {
        assert_eq!(holds(&full(), rule(Model, operator, text(value))), expected, "{operator:?} {value}");
    }
    let answered = bare().with("gen_ai.response.model", "x");
    assert!(holds(&answered, rule(Model, Equals, text("x"))));
    assert!(holds(&answered, rule(Model, Exists, None)));
}

#[test]
fn a_provider_is_its_name_and_for_equality_also_its_slug() {
    let table = [
        (Equals, "Amazon Bedrock", true),
        (Equals, "amazon-bedrock/global", true),
        (Equals, "amazon bedrock", false),
        (NotEquals, "Amazon Bedrock", false),
        (NotEquals, "amazon-bedrock/global", false),
        (NotEquals, "OpenAI", true),
        (Contains, "Bedrock", true),
        (Contains, "bedrock/", false),
        (NotContains, "bedrock/", true),
        (StartsWith, "amazon", false),
        (EndsWith, "global", false),
        (Regex, "^Amazon", true),
        (Regex, "^amazon", false),
    ];
    for (operator, value, expected) in table {
        assert_eq!(holds(&full(), rule(Provider, operator, text(value))), expected, "{operator:?} {value}");
    }
}

#[test]
fn numbers() {
    let table: &[(Field, Operator, f64, bool)] = &[
        (TotalCost, Equals, 0.5, true),
        (TotalCost, Equals, 0.25, false),
        (TotalCost, NotEquals, 0.5, false),
        (TotalCost, NotEquals, 0.25, true),
        (TotalCost, Gt, 0.5, false),
        (TotalCost, Gt, 0.49, true),
        (TotalCost, Gte, 0.5, true),
        (TotalCost, Lt, 0.5, false),
        (TotalCost, Lt, 0.51, true),
        (TotalCost, Lte, 0.5, true),
        (TotalCost, Lte, 0.4, false),
        (TotalTokens, Equals, 120.0, true),
        (TotalTokens, Gt, 119.5, true),
        (TotalTokens, Lte, 119.5, false),
        (PromptTokens, Equals, 100.0, true),
        (PromptTokens, Gte, 101.0, false),
        (CompletionTokens, Equals, 20.0, true),
        (CompletionTokens, Lt, 21.0, true),
    ];
    for (field, operator, value, expected) in table {
        for value in [FilterValue::Number(*value), text(&value.to_string())] {
            let actual = holds(&full(), rule(*field, *operator, value.clone()));
            assert_eq!(actual, *expected, "{field:?} {operator:?} {value:?}");
        }
    }
}

#[test]
fn zero_is_a_number_and_not_missing() {
    let free = bare().with("gen_ai.usage.total_cost", 0.0).with("gen_ai.usage.output_tokens", 0);
    assert!(holds(&free, rule(TotalCost, Exists, None)));
    assert!(holds(&free, rule(TotalCost, Lte, FilterValue::Number(0.0))));
    assert!(holds(&free, rule(CompletionTokens, Equals, FilterValue::Number(0.0))));
}

#[test]
fn a_missing_field_fails_positive_and_passes_negative_operators() {
    for field in TEXT_FIELDS {
        for operator in TEXT_OPERATORS {
            let expected = NEGATIVE.contains(&operator);
            // A text that any present value would match or differ from.
            for value in ["", "x"] {
                let actual = holds(&bare(), rule(field, operator, text(value)));
                assert_eq!(actual, expected, "{field:?} {operator:?} {value:?}");
            }
        }
    }
    for field in NUMBER_FIELDS {
        for operator in NUMBER_OPERATORS {
            let actual = holds(&bare(), rule(field, operator, FilterValue::Number(0.0)));
            assert_eq!(actual, NEGATIVE.contains(&operator), "{field:?} {operator:?}");
        }
    }
}

#[test]
fn every_field_that_is_there_exists() {
    for field in TEXT_FIELDS.into_iter().chain(NUMBER_FIELDS) {
        assert!(holds(&full(), rule(field, Exists, None)), "{field:?}");
        assert!(!holds(&full(), rule(field, NotExists, None)), "{field:?}");
        // A value given to them is ignored.
        assert!(holds(&full(), rule(field, Exists, text("nonsense"))), "{field:?}");
    }
}

#[test]
fn an_empty_text_counts_as_missing_for_exists() {
    let empty = bare().with("user.id", "");
    assert!(!holds(&empty, rule(UserId, Exists, None)));
    assert!(holds(&empty, rule(UserId, NotExists, None)));
    assert!(!holds(&empty, rule(UserId, Equals, text("x"))));
    assert!(holds(&empty, rule(UserId, NotEquals, text("x"))));
}

#[test]
fn the_credential_names_the_key_before_the_span_does() {
    let is = |name: &str| rule(ApiKeyName, Equals, text(name));
    assert!(holds_with(&full(), is("prod"), Some("prod")));
    assert!(!holds_with(&full(), is("own key"), Some("prod")));
    assert!(holds_with(&full(), is("own key"), None));
    assert!(!holds_with(&bare(), is("own key"), None));
}

#[test]
fn a_number_given_for_a_text_is_its_shortest_decimal_text() {
    for (value, written) in [(5.0, "5"), (0.1, "0.1"), (-2.5, "-2.5"), (1e21, "1000000000000000000000")] {
        let span = bare().with("user.id", written);
        assert!(holds(&span, rule(UserId, Equals, FilterValue::Number(value))), "{written}");
    }
    assert!(holds(&bare().with("user.id", "user 42 b"), rule(UserId, Contains, FilterValue::Number(42.0))));
}

#[test]
fn groups_are_joined_by_and_rules_by_the_logic_of_the_group() {
    let yes = || rule(UserId, Exists, None);
    let no = || rule(UserId, NotExists, None);
    let table = [
        (vec![], true),
        (vec![(Logic::And, vec![])], true),
        (vec![(Logic::Or, vec![])], true),
        (vec![(Logic::And, vec![yes(), yes()])], true),
        (vec![(Logic::And, vec![yes(), no()])], false),
        (vec![(Logic::Or, vec![no(), yes()])], true),
        (vec![(Logic::Or, vec![no(), no()])], false),
        (vec![(Logic::Or, vec![no(), yes()]), (Logic::And, vec![yes()])], true),
        (vec![(Logic::Or, vec![no(), yes()]), (Logic::And, vec![no()])], false),
        (vec![(Logic::And, vec![no()]), (Logic::And, vec![yes()])], false),
        (vec![(Logic::Or, vec![]), (Logic::And, vec![no()])], false),
    ];
    for (groups, expected) in table {
        let shown = format!("{groups:?}");
        let plan = plan(&[destination(1, |d| d.filter_rules = rules(groups))]);
        let decision = decide(&plan, &[full()], &TraceMemory::default());
        assert_eq!(!decision.routes.is_empty(), expected, "{shown}");
    }
}

#[test]
fn rules_that_refuse_nothing_cost_nothing() {
    let never = vec![FilterGroup { logic: Logic::And, rules: vec![rule(UserId, NotExists, None)] }];
    for (enabled, groups) in
        [(false, never), (true, vec![]), (true, vec![FilterGroup { logic: Logic::Or, rules: vec![] }])]
    {
        assert!(Filter::compile(&FilterRules { enabled, groups }).unwrap().is_none());
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    let error = |rule_: FilterRule| {
        let ok = rule(UserId, Exists, None);
        Filter::compile(&rules(vec![(Logic::And, vec![]), (Logic::Or, vec![ok, rule_])]).unwrap())
            .unwrap_err()
    };
    let table = [
        (rule(UserId, Gt, text("1")), "this operator needs a numeric field"),
        (rule(TotalCost, Contains, text("1")), "this operator needs a text field"),
        (rule(TotalCost, Regex, text("1")), "this operator needs a text field"),
        (rule(TotalCost, Gt, text("much")), "value is not a number"),
        (rule(TotalCost, Gt, FilterValue::Number(f64::NAN)), "value is not a number"),
        (rule(UserId, Equals, None), "value is missing"),
        (rule(TotalTokens, Lt, None), "value is missing"),
        (rule(UserId, Regex, text("a(b")), "regular expression: unclosed group"),
    ];
    for (rule, reason) in table {
        assert_eq!(error(rule), format!("filter_rules.groups[1].rules[1]: {reason}"));
    }
    assert!(error(rule(UserId, Regex, text("(a{1000}){1000}"))).contains("size limit"));
    assert!(error(rule(UserId, Regex, text("(?=x)"))).contains("look-around"));
}

#[test]
fn a_regex_stays_linear() {
    let long = "a".repeat(200_000);
    let span = bare().with("user.id", long.as_str());
    assert!(!holds(&span, rule(UserId, Regex, text("(a*)*b"))));
}

/// What the fields of [`full`] read as.
fn readings(field: Field) -> &'static [&'static str] {
    match field {
        Model => &["acme/large", "acme/large-2026"],
        Provider => &["Amazon Bedrock", "amazon-bedrock/global"],
        SessionId => &["session-7"],
        UserId => &["Ünal"],
        ApiKeyName => &["own key"],
        FinishReason => &["stop"],
        Input => &["where is the cat"],
        Output => &["on the mat"],
        _ => &[],
    }
}

fn comparison() -> impl Strategy<Value = (Field, bool, String)> {
    let field = proptest::sample::select(&TEXT_FIELDS[..]);
    (field, any::<bool>(), any::<proptest::sample::Index>(), 0..4u8).prop_map(|(field, equal, at, change)| {
        let texts = readings(field);
        let text = texts[at.index(texts.len())];
        let text = match change {
            0 | 1 => text.to_owned(),
            // Of the same length, with the same beginning and end where that is possible.
            2 => {
                let middle = text.char_indices().nth(text.chars().count() / 2).unwrap().0;
                text.char_indices().map(|(i, c)| if i == middle { '#' } else { c }).collect()
            }
            _ => String::new(),
        };
        (field, equal, text)
    })
}

proptest! {
    #[test]
    fn whatever_a_filter_cannot_do_without_it_passes_as_its_rules_say(
        groups in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(comparison(), 1..4)),
            1..4,
        ),
    ) {
        let holds = |(field, equal, text): &(Field, bool, String)| readings(*field).contains(&text.as_str()) == *equal;
        let expected = groups.iter().all(|(and, rules)| match and {
            true => rules.iter().all(holds),
            false => rules.iter().any(holds),
        });
        let written = groups.iter().map(|(and, comparisons)| {
            let rules = comparisons.iter().map(|(field, equal, value)| {
                rule(*field, if *equal { Equals } else { NotEquals }, text(value))
            });
            (if *and { Logic::And } else { Logic::Or }, rules.collect())
        });
        let plan = plan(&[destination(1, |d| d.filter_rules = rules(written.collect()))]);
        let decision = decide(&plan, &[full()], &TraceMemory::default());
        prop_assert_eq!(!decision.routes.is_empty(), expected);
    }
}
