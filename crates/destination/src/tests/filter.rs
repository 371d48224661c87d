//! The grammar of filter rules: what is read, and what is refused where.
use super::*;
use crate::{Field, FilterRules, FilterValue, Logic, Operator, filter_regex};

fn rule(field: &str, operator: &str, value: Json) -> Json {
    json!({"groups": [{"rules": [{"field": field, "operator": operator, "value": value}]}]})
}

fn value_of(rules: &Json) -> Option<FilterValue> {
    FilterRules::from_json(rules).unwrap().groups[0].rules[0].value.clone()
}

#[test]
fn the_names_are_those_of_the_contract() {
    assert_eq!(
        Field::ALL.map(Field::as_str).join(" "),
        "model provider session_id user_id api_key_name finish_reason input output total_cost \
         total_tokens prompt_tokens completion_tokens"
    );
    assert_eq!(
        Operator::ALL.map(Operator::as_str).join(" "),
        "equals not_equals contains not_contains regex starts_with ends_with gt lt gte lte exists \
         not_exists"
    );
}

#[test]
fn defaults_and_the_form_that_comes_back() {
    let read = FilterRules::from_json(&json!({"groups": [{"rules": []}]})).unwrap();
    assert!(read.enabled);
    assert_eq!(read.groups[0].logic, Logic::And);
    assert_eq!(read.to_json(), json!({"enabled": true, "groups": [{"logic": "and", "rules": []}]}));
    let full = json!({"enabled": false, "groups": [{"logic": "or", "rules": [
        {"field": "model", "operator": "regex", "value": "(?i)^gpt-\\d"},
        {"field": "total_cost", "operator": "gte", "value": 0.5},
        {"field": "total_tokens", "operator": "lt", "value": 1000},
        {"field": "user_id", "operator": "not_exists"},
    ]}]});
    let read = FilterRules::from_json(&full).unwrap();
    assert_eq!(read.to_json(), full);
    assert_eq!(FilterRules::from_json(&read.to_json()).unwrap(), read);
}

#[test]
fn numbers_and_texts_become_what_the_field_is() {
    for (given, number) in [(json!(0.5), 0.5), (json!("0.5"), 0.5), (json!("1e3"), 1000.0), (json!(-2), -2.0)]
    {
        assert_eq!(value_of(&rule("total_cost", "gt", given)), Some(FilterValue::Number(number)));
    }
    for (given, text) in [
        (json!(5), "5"),
        (json!(5.0), "5"),
        (json!(0.1), "0.1"),
        (json!(1e21), "1000000000000000000000"),
        (json!(18_446_744_073_709_551_615_u64), "18446744073709551615"),
        (json!(-3), "-3"),
        (json!(""), ""),
    ] {
        let expected = Some(FilterValue::Text(text.to_owned()));
        assert_eq!(value_of(&rule("user_id", "equals", given)), expected);
    }
    // a value for exists says nothing
    for ignored in [json!("x"), json!(1), json!(null), json!([])] {
        assert_eq!(value_of(&rule("model", "exists", ignored.clone())), None);
        assert_eq!(value_of(&rule("total_cost", "not_exists", ignored)), None);
    }
}

#[test]
fn every_pair_of_field_and_operator_is_decided() {
    for field in Field::ALL {
        for operator in Operator::ALL {
            let value = if field.is_numeric() { json!(1) } else { json!("x") };
            let result = FilterRules::from_json(&rule(field.as_str(), operator.as_str(), value));
            let textual = ["contains", "not_contains", "regex", "starts_with", "ends_with"];
            let ordering = ["gt", "lt", "gte", "lte"];
            let refused = match field.is_numeric() {
                true => textual.contains(&operator.as_str()),
                false => ordering.contains(&operator.as_str()),
            };
            assert_eq!(result.is_err(), refused, "{field} {operator}");
            if let Err(issues) = result {
                assert_eq!(issues[0].path, "filter_rules.groups[0].rules[0].operator");
                assert_eq!(issues.len(), 1);
            }
        }
    }
}

#[test]
fn what_is_refused_and_where() {
    let in_group = |group: Json| json!({"groups": [{"rules": []}, group]});
    for (bad, path) in [
        (json!([]), ""),
        (json!("x"), ""),
        (json!({}), ".groups"),
        (json!({"groups": null}), ".groups"),
        (json!({"groups": {}}), ".groups"),
        (json!({"groups": [], "enabled": 1}), ".enabled"),
        (json!({"groups": [], "enable": true}), ".enable"),
        (json!({"groups": [[]]}), ".groups[0]"),
        (in_group(json!({})), ".groups[1].rules"),
        (in_group(json!({"rules": [], "logic": "xor"})), ".groups[1].logic"),
        (in_group(json!({"rules": [], "negate": true})), ".groups[1].negate"),
        (in_group(json!({"rules": [1]})), ".groups[1].rules[0]"),
        (in_group(json!({"rules": [{"operator": "exists"}]})), ".groups[1].rules[0].field"),
        (in_group(json!({"rules": [{"field": "model"}]})), ".groups[1].rules[0].operator"),
        (rule("modell", "exists", json!(1)), ".groups[0].rules[0].field"),
        (rule("model", "matches", json!(1)), ".groups[0].rules[0].operator"),
        (rule("model", "equals", json!(true)), ".groups[0].rules[0].value"),
        (rule("model", "equals", json!(null)), ".groups[0].rules[0].value"),
        (rule("model", "equals", json!(["a"])), ".groups[0].rules[0].value"),
        (in_group(json!({"rules": [{"field": "model", "operator": "equals"}]})), ".groups[1].rules[0].value"),
        (rule("total_cost", "gt", json!("cheap")), ".groups[0].rules[0].value"),
        (rule("total_cost", "gt", json!("NaN")), ".groups[0].rules[0].value"),
        (rule("total_cost", "gt", json!("inf")), ".groups[0].rules[0].value"),
        (rule("total_cost", "gt", json!("1e999")), ".groups[0].rules[0].value"),
        (rule("total_cost", "equals", json!("")), ".groups[0].rules[0].value"),
        (rule("model", "regex", json!("(")), ".groups[0].rules[0].value"),
    ] {
        sole(FilterRules::from_json(&bad), &format!("filter_rules{path}"));
    }
}

#[test]
fn regexes_from_other_dialects_are_refused_by_name() {
    for (pattern, says) in [
        ("(?=a)b", " a look-ahead ((?=)"),
        ("(?!a)b", " a negative look-ahead ((?!)"),
        ("(?<=a)b", " a look-behind ((?<=)"),
        ("(?<!a)b", " a negative look-behind ((?<!)"),
        ("(a)\\1", "back-reference"),
        ("(?<x>a)\\k<x>", "back-reference"),
        ("(?>a)b", "atomic group"),
        ("[a", "unclosed character class"),
        ("a{1,1000}{1,1000}", "1048576 bytes"),
    ] {
        let issue = sole(
            FilterRules::from_json(&rule("model", "regex", json!(pattern))),
            "filter_rules.groups[0].rules[0].value",
        );
        assert!(issue.message.contains(says), "{pattern}: {issue}");
        assert!(issue.hint.is_some());
        assert!(!issue.message.contains('\n'), "{issue}");
    }
    assert!(filter_regex("(?i)^openai/").unwrap().is_match("OpenAI/gpt"));
}

#[test]
fn a_rule_set_inside_a_body_is_reported_in_its_place() {
    let body = with(
        &body(Kind::Webhook, &json!({"url": "http://h"})),
        json!({"filter_rules": rule("model", "gt", json!(1))}),
    );
    sole(create(&body), "filter_rules.groups[0].rules[0].operator");
}
