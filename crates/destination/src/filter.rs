//! Filter rules: a grammar of groups of rules, checked at write so that evaluation cannot fail.
//!
//! All groups must pass; inside a group `logic` decides. What a rule means on an event is the
//! business of the rules crate; here it is only decided which rules exist.
use serde_json::{Value as Json, json};

use crate::issue::{Fault, Issue, expected, quote};
use crate::read::{Reader, array, choice, flag};

/// Size bound of a compiled filter regex, bytes.
pub const REGEX_SIZE_LIMIT_BYTES: usize = 1 << 20;

/// The rules of a destination.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterRules {
    /// If false, everything passes.
    pub enabled: bool,
    /// All must pass; none = everything passes.
    pub groups: Vec<FilterGroup>,
}

/// Rules joined by one connective.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterGroup {
    /// How the rules are joined.
    pub logic: Logic,
    /// None = the group passes.
    pub rules: Vec<FilterRule>,
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterRule {
    /// What is looked at.
    pub field: Field,
    /// How it is compared.
    pub operator: Operator,
    /// With what: `Number` exactly for numeric fields, `Text` for the others; `None` exactly for
    /// `exists` and `not_exists`. A regex has been compiled once and is known to be valid.
    pub value: Option<FilterValue>,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterValue {
    /// For text fields.
    Text(String),
    /// For numeric fields; finite.
    Number(f64),
}

wire_enum! {
    /// How the rules of a group are joined.
    pub enum Logic {
        /// All must hold.
        And = "and",
        /// One must hold.
        Or = "or",
    }
}

wire_enum! {
    /// What a rule looks at.
    pub enum Field {
        /// Model slug, requested or answered.
        Model = "model",
        /// Provider name or slug.
        Provider = "provider",
        /// Session of the request.
        SessionId = "session_id",
        /// User of the request.
        UserId = "user_id",
        /// Name of the API key.
        ApiKeyName = "api_key_name",
        /// Normalized finish reason.
        FinishReason = "finish_reason",
        /// Text of the messages.
        Input = "input",
        /// Text of the completion.
        Output = "output",
        /// Cost in USD.
        TotalCost = "total_cost",
        /// All tokens.
        TotalTokens = "total_tokens",
        /// Input tokens.
        PromptTokens = "prompt_tokens",
        /// Output tokens.
        CompletionTokens = "completion_tokens",
    }
}

impl Field {
    /// Whether the field holds a number (cost, tokens) rather than text.
    pub fn is_numeric(self) -> bool {
        matches!(self, Field::TotalCost | Field::TotalTokens | Field::PromptTokens | Field::CompletionTokens)
    }
}

wire_enum! {
    /// How a rule compares.
    pub enum Operator {
        /// Equal.
        Equals = "equals",
        /// Not equal, or missing.
        NotEquals = "not_equals",
        /// Holds the text.
        Contains = "contains",
        /// Does not hold the text, or missing.
        NotContains = "not_contains",
        /// Matches the pattern somewhere.
        Regex = "regex",
        /// Begins with the text.
        StartsWith = "starts_with",
        /// Ends with the text.
        EndsWith = "ends_with",
        /// Greater.
        Gt = "gt",
        /// Less.
        Lt = "lt",
        /// Greater or equal.
        Gte = "gte",
        /// Less or equal.
        Lte = "lte",
        /// Present and not empty.
        Exists = "exists",
        /// Missing or empty.
        NotExists = "not_exists",
    }
}

impl Operator {
    /// Whether the operator compares with a value at all.
    pub fn takes_value(self) -> bool {
        !matches!(self, Operator::Exists | Operator::NotExists)
    }

    fn is_ordering(self) -> bool {
        matches!(self, Operator::Gt | Operator::Lt | Operator::Gte | Operator::Lte)
    }

    fn is_textual(self) -> bool {
        matches!(
            self,
            Operator::Contains
                | Operator::NotContains
                | Operator::Regex
                | Operator::StartsWith
                | Operator::EndsWith
        )
    }

    /// Whether the operator has a meaning on the field.
    fn fits(self, field: Field) -> Result<(), Fault> {
        if field.is_numeric() && self.is_textual() {
            return Err(Fault::new(format!("{self} does not apply to the numeric field {field}"))
                .hint("use equals, not_equals, gt, lt, gte, lte, exists or not_exists"));
        }
        if !field.is_numeric() && self.is_ordering() {
            return Err(Fault::new(format!("{self} does not apply to the text field {field}"))
                .hint("it needs one of total_cost, total_tokens, prompt_tokens, completion_tokens"));
        }
        Ok(())
    }
}

impl FilterRules {
    /// Reads the API form, every problem at once; paths begin with `filter_rules`.
    pub fn from_json(json: &Json) -> Result<FilterRules, Vec<Issue>> {
        let mut issues = Vec::new();
        match FilterRules::read(json, "filter_rules", &mut issues) {
            Some(rules) => Ok(rules),
            None => Err(issues),
        }
    }

    /// `None` exactly if issues were added.
    pub(crate) fn read(json: &Json, path: &str, issues: &mut Vec<Issue>) -> Option<FilterRules> {
        let issues_before = issues.len();
        let mut reader = Reader::open(json, path, issues)?;
        // An unknown member could narrow a rule we would then apply too widely: refused.
        reader.refuse_unknown(&["enabled", "groups"]);
        let enabled = reader.optional("enabled", flag).unwrap_or(true);
        let groups = reader.required("groups", array).unwrap_or_default();
        let groups = each(groups, &reader.path_of("groups"), reader.issues, read_group);
        (issues.len() == issues_before).then_some(FilterRules { enabled, groups })
    }

    /// The API form.
    pub fn to_json(&self) -> Json {
        let rule = |rule: &FilterRule| {
            let mut form = json!({
                "field": rule.field.as_str(),
                "operator": rule.operator.as_str(),
            });
            if let Some(value) = &rule.value {
                form["value"] = match value {
                    FilterValue::Text(text) => Json::from(text.as_str()),
                    FilterValue::Number(number) => number_json(*number),
                };
            }
            form
        };
        let group = |group: &FilterGroup| {
            let rules: Vec<Json> = group.rules.iter().map(rule).collect();
            json!({ "logic": group.logic.as_str(), "rules": rules })
        };
        let groups: Vec<Json> = self.groups.iter().map(group).collect();
        json!({ "enabled": self.enabled, "groups": groups })
    }
}

/// Reads every element; those that are wrong leave issues and are left out.
fn each<T>(
    items: &[Json],
    path: &str,
    issues: &mut Vec<Issue>,
    read: fn(&Json, String, &mut Vec<Issue>) -> Option<T>,
) -> Vec<T> {
    items.iter().enumerate().filter_map(|(i, item)| read(item, format!("{path}[{i}]"), issues)).collect()
}

fn read_group(json: &Json, path: String, issues: &mut Vec<Issue>) -> Option<FilterGroup> {
    let mut reader = Reader::open(json, path, issues)?;
    reader.refuse_unknown(&["logic", "rules"]);
    let logic = reader.optional("logic", choice).unwrap_or(Logic::And);
    let rules = reader.required("rules", array)?;
    let rules = each(rules, &reader.path_of("rules"), reader.issues, read_rule);
    Some(FilterGroup { logic, rules })
}

fn read_rule(json: &Json, path: String, issues: &mut Vec<Issue>) -> Option<FilterRule> {
    let mut reader = Reader::open(json, path, issues)?;
    reader.refuse_unknown(&["field", "operator", "value"]);
    let field = reader.required("field", choice::<Field>);
    let operator = reader.required("operator", choice::<Operator>);
    let (field, operator) = (field?, operator?);
    if let Err(fault) = operator.fits(field) {
        reader.refuse("operator", fault);
        return None;
    }
    let value = match operator.takes_value() {
        // A value given to `exists` says nothing: ignored.
        false => None,
        true => Some(reader.required("value", |json| read_value(field, operator, json))?),
    };
    Some(FilterRule { field, operator, value })
}

fn read_value(field: Field, operator: Operator, json: &Json) -> Result<FilterValue, Fault> {
    let text = match json {
        Json::String(text) => text.clone(),
        Json::Number(number) => decimal(number),
        other => return Err(expected("a string or a number", other)),
    };
    if field.is_numeric() {
        let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        return number.map(FilterValue::Number).ok_or_else(|| {
            Fault::new(format!("must be a number, because {field} is one; found {}", quote(&text)))
        });
    }
    if operator == Operator::Regex {
        filter_regex(&text).map_err(|error| regex_fault(&text, &error))?;
    }
    Ok(FilterValue::Text(text))
}

/// The shortest decimal text that means the number, without an exponent.
fn decimal(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

/// A number as JSON: integral ones without a fraction, as they were most likely entered.
fn number_json(number: f64) -> Json {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        Json::from(number as i64)
    } else {
        Json::from(number)
    }
}

/// Compiles the pattern of a filter rule: unanchored, case-sensitive, bounded in size, linear in
/// time. Validation and evaluation both use it, so what was accepted also compiles.
pub fn filter_regex(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(pattern).size_limit(REGEX_SIZE_LIMIT_BYTES).build()
}

fn regex_fault(pattern: &str, error: &regex::Error) -> Fault {
    let report = match error {
        regex::Error::CompiledTooBig(limit) => {
            return Fault::new(format!("is a regex that compiles to more than {limit} bytes"))
                .hint("shorten it, above all counted repetitions such as {1,1000}");
        }
        other => other.to_string(),
    };
    if let Some((name, start)) = unsupported(pattern, &report) {
        return Fault::new(format!("uses a {name} ({start}), which cannot run in linear time"))
            .hint("say it with two rules, e.g. a regex and a not_contains, or with plain alternatives");
    }
    let reason = report.lines().last().unwrap_or_default().trim_start_matches("error: ");
    Fault::new(format!("is not a valid regex: {reason}"))
        .hint("the syntax is that of the Rust regex crate; (?i) ignores case")
}

/// The construct known from other regex dialects that the parser stumbled over.
fn unsupported(pattern: &str, report: &str) -> Option<(&'static str, &'static str)> {
    let first_of = |constructs: &[(&'static str, &'static str)]| {
        constructs
            .iter()
            .filter_map(|found| pattern.find(found.1).map(|at| (at, *found)))
            .min_by_key(|(at, _)| *at)
            .map(|(_, found)| found)
    };
    if report.contains("look-around") {
        first_of(&[
            ("look-ahead", "(?="),
            ("negative look-ahead", "(?!"),
            ("look-behind", "(?<="),
            ("negative look-behind", "(?<!"),
        ])
    } else if report.contains("backreferences") {
        Some(("back-reference", "\\1"))
    } else if report.contains("unrecognized escape") {
        first_of(&[("back-reference", "\\k<")])
    } else if report.contains("unrecognized flag") {
        first_of(&[("atomic group", "(?>")])
    } else {
        None
    }
}
