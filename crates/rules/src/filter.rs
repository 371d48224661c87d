//! Filter rules, compiled: all groups must pass, inside a group its logic holds.

use crate::fields::Fields;
use crate::needs::Needs;
use memchr::memmem::Finder;
use regex::Regex;
use tracecast_destination::{Field, FilterRule, FilterRules, FilterValue, Logic, Operator, filter_regex};

/// Compiled rules of one destination that can refuse something.
#[derive(Debug)]
pub(crate) struct Filter {
    groups: Box<[Group]>,
    pub(crate) needs: Needs,
}

#[derive(Debug)]
struct Group {
    /// Position among the groups as written.
    number: usize,
    logic: Logic,
    rules: Box<[Rule]>,
}

#[derive(Debug)]
struct Rule {
    field: Field,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Exists,
    NotExists,
    Text { matcher: Matcher, negated: bool },
    Number { comparison: Comparison, value: f64 },
}

#[derive(Debug)]
enum Matcher {
    Equals(Box<str>),
    Contains(Box<Finder<'static>>),
    Regex(Regex),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equals,
    NotEquals,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

impl Filter {
    /// `None` if the rules let everything pass: switched off, no groups, groups without rules.
    /// The error names the place and the reason.
    pub(crate) fn compile(rules: &FilterRules) -> Result<Option<Filter>, String> {
        if !rules.enabled {
            return Ok(None);
        }
        let mut groups = Vec::with_capacity(rules.groups.len());
        for (number, group) in rules.groups.iter().enumerate() {
            let rules = group
                .rules
                .iter()
                .enumerate()
                .map(|(i, rule)| {
                    Rule::compile(rule).map_err(|reason| format!("{}: {reason}", rule_path(number, i)))
                })
                .collect::<Result<Box<[Rule]>, String>>()?;
            if !rules.is_empty() {
                groups.push(Group { number, logic: group.logic, rules });
            }
        }
        let needs = groups.iter().find_map(Group::needs).unwrap_or(Needs::NOTHING);
        Ok((!groups.is_empty()).then(|| Filter { groups: groups.into(), needs }))
    }

    #[inline]
    pub(crate) fn passes(&self, fields: &Fields<'_>) -> bool {
        self.groups.iter().all(|group| match group.logic {
            Logic::And => group.rules.iter().all(|rule| rule.holds(fields)),
            Logic::Or => group.rules.iter().any(|rule| rule.holds(fields)),
        })
    }

    /// Every rule by itself: group and rule number as written, whether it holds.
    pub(crate) fn each(&self, fields: &Fields<'_>, mut see: impl FnMut(usize, usize, bool)) {
        for group in &self.groups {
            for (i, rule) in group.rules.iter().enumerate() {
                see(group.number, i, rule.holds(fields));
            }
        }
    }
}

impl Group {
    /// A text without which it does not pass.
    fn needs(&self) -> Option<Needs> {
        let each_must_hold = self.logic == Logic::And || self.rules.len() == 1;
        self.rules.iter().filter(|_| each_must_hold).find_map(|rule| match &rule.test {
            Test::Text { matcher: Matcher::Equals(text), negated: false } => Needs::new(rule.field, text),
            _ => None,
        })
    }
}

/// Where a rule stands in the destination.
pub(crate) fn rule_path(group: usize, rule: usize) -> String {
    format!("filter_rules.groups[{group}].rules[{rule}]")
}

impl Rule {
    fn compile(rule: &FilterRule) -> Result<Rule, String> {
        let field = rule.field;
        let test = match rule.operator {
            Operator::Exists => Test::Exists,
            Operator::NotExists => Test::NotExists,
            operator => {
                let value = rule.value.as_ref().ok_or("value is missing")?;
                if field.is_numeric() {
                    Test::Number { comparison: Comparison::compile(operator)?, value: number(value)? }
                } else {
                    let (matcher, negated) = Matcher::compile(operator, text(value))?;
                    Test::Text { matcher, negated }
                }
            }
        };
        Ok(Rule { field, test })
    }

    #[inline]
    fn holds(&self, fields: &Fields<'_>) -> bool {
        match &self.test {
            Test::Exists => self.exists(fields),
            Test::NotExists => !self.exists(fields),
            Test::Text { matcher, negated } => {
                let [first, mut second] = fields.texts(self.field);
                if self.field == Field::Provider && !matches!(matcher, Matcher::Equals(_)) {
                    // Only whole slugs are compared.
                    second = None;
                }
                let matches = |text: &str| matcher.matches(text);
                (first.is_some_and(matches) || second.is_some_and(matches)) != *negated
            }
            Test::Number { comparison, value } => match fields.number(self.field) {
                Some(actual) => comparison.holds(actual, *value),
                None => matches!(comparison, Comparison::NotEquals),
            },
        }
    }

    fn exists(&self, fields: &Fields<'_>) -> bool {
        if self.field.is_numeric() {
            fields.number(self.field).is_some()
        } else {
            fields.texts(self.field).into_iter().flatten().any(|text| !text.is_empty())
        }
    }
}

impl Matcher {
    /// The matcher of the positive operator, and whether the rule negates it.
    fn compile(operator: Operator, value: String) -> Result<(Matcher, bool), String> {
        Ok(match operator {
            Operator::Equals => (Matcher::Equals(value.into()), false),
            Operator::NotEquals => (Matcher::Equals(value.into()), true),
            Operator::Contains => (Matcher::contains(&value), false),
            Operator::NotContains => (Matcher::contains(&value), true),
            Operator::StartsWith => (Matcher::StartsWith(value.into()), false),
            Operator::EndsWith => (Matcher::EndsWith(value.into()), false),
            Operator::Regex => (Matcher::regex(&value)?, false),
            _ => return Err("this operator needs a numeric field".into()),
        })
    }

    fn contains(needle: &str) -> Matcher {
        Matcher::Contains(Box::new(Finder::new(needle.as_bytes()).into_owned()))
    }

    fn regex(pattern: &str) -> Result<Matcher, String> {
        filter_regex(pattern).map(Matcher::Regex).map_err(|error| {
            let report = error.to_string();
            // A syntax error draws the pattern; the reason is its last line.
            let reason = report.lines().last().unwrap_or_default();
            format!("regular expression: {}", reason.trim_start_matches("error: "))
        })
    }

    #[inline]
    fn matches(&self, text: &str) -> bool {
        match self {
            // Most filters compare, and most values differ in length: told here, not by a call.
            Matcher::Equals(value) => text.len() == value.len() && text == &**value,
            Matcher::Contains(needle) => needle.find(text.as_bytes()).is_some(),
            Matcher::Regex(regex) => regex.is_match(text),
            Matcher::StartsWith(value) => text.starts_with(&**value),
            Matcher::EndsWith(value) => text.ends_with(&**value),
        }
    }
}

impl Comparison {
    fn compile(operator: Operator) -> Result<Comparison, String> {
        Ok(match operator {
            Operator::Equals => Comparison::Equals,
            Operator::NotEquals => Comparison::NotEquals,
            Operator::Gt => Comparison::Greater,
            Operator::Lt => Comparison::Less,
            Operator::Gte => Comparison::GreaterOrEqual,
            Operator::Lte => Comparison::LessOrEqual,
            _ => return Err("this operator needs a text field".into()),
        })
    }

    fn holds(self, actual: f64, value: f64) -> bool {
        match self {
            Comparison::Equals => actual == value,
            Comparison::NotEquals => actual != value,
            Comparison::Greater => actual > value,
            Comparison::Less => actual < value,
            Comparison::GreaterOrEqual => actual >= value,
            Comparison::LessOrEqual => actual <= value,
        }
    }
}

/// A number stands for its shortest decimal text.
fn text(value: &FilterValue) -> String {
    match value {
        FilterValue::Text(text) => text.clone(),
        FilterValue::Number(number) => number.to_string(),
    }
}

fn number(value: &FilterValue) -> Result<f64, String> {
    let number = match value {
        FilterValue::Number(number) => Some(*number),
        FilterValue::Text(text) => text.trim().parse().ok(),
    };
    number.filter(|number: &f64| number.is_finite()).ok_or_else(|| "value is not a number".into())
}
