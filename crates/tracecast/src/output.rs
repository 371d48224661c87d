//! What the thin clients write: plain aligned tables to stdout, messages to stderr.

use std::io::Write as _;

use serde_json::Value as Json;

use crate::Exit;
use crate::admin::{Answer, Failure};

/// Writes to stdout. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// The API's body as received, ended by a line break.
pub(crate) fn print_body(text: &str) {
    print(text);
    if !text.ends_with('\n') {
        print("\n");
    }
}

/// A message to the person.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Tells what went wrong and ends with its code. With `json` the body of an error answer goes to stdout too.
pub(crate) fn fail(failure: &Failure, json: bool) -> Exit {
    match failure {
        Failure::Refused(refusal) => {
            if json {
                print_body(&refusal.text);
            }
            if refusal.test.is_some() {
                say("tracecast: the connection test failed: nothing was stored");
            } else if refusal.issues.is_empty() {
                say(&format!("tracecast: {}", visible(&refusal.to_string())));
            } else {
                say("tracecast: the gateway does not accept this:");
                for issue in &refusal.issues {
                    let hint = issue.hint.as_ref().map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
                    let path = if issue.path.is_empty() { "body" } else { &issue.path };
                    say(&visible(&format!("{path}: {}{hint}", issue.message)));
                }
            }
        }
        other => say(&format!("tracecast: {}", visible(&other.to_string()))),
    }
    failure.exit()
}

/// The end of a command that only shows an answer: its body with `json`, else what `show` makes of it.
pub(crate) fn finish(answer: &Answer, json: bool, show: impl FnOnce(&Json) -> String) {
    if json {
        print_body(&answer.text);
    } else {
        print(&show(&answer.body));
    }
}

/// Rows under a heading, in columns two blanks apart.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which stand at the right.
    right: &'static [usize],
}

impl Table {
    pub(crate) fn new(heading: &[&str], right: &'static [usize]) -> Table {
        Table { rows: vec![heading.iter().map(|h| (*h).to_owned()).collect()], right }
    }

    /// A list of names and values, without a heading.
    pub(crate) fn pairs() -> Table {
        Table { rows: Vec::new(), right: &[] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| visible(&cell)).collect());
    }

    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|i| self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) =
                    if self.right.contains(&i) { (blanks.as_str(), "") } else { ("", blanks.as_str()) };
                line.push_str(if i == 0 { "" } else { "  " });
                line.extend([before, cell, after]);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// An object as names and values, one a line, those of `first` first; objects within are spelled `outer.inner`.
pub(crate) fn fields(object: &Json, first: &[&str]) -> String {
    fn add(prefix: &str, value: &Json, table: &mut Table) {
        match value {
            Json::Object(map) if !map.is_empty() => {
                for (key, below) in map {
                    add(&format!("{prefix}.{key}"), below, table);
                }
            }
            value => table.row([prefix.to_owned(), cell(value)]),
        }
    }
    let mut table = Table::pairs();
    for key in first {
        if let Some(value) = object.get(key) {
            add(key, value, &mut table);
        }
    }
    for (key, value) in object.as_object().into_iter().flatten() {
        if !first.contains(&key.as_str()) {
            add(key, value, &mut table);
        }
    }
    table.text()
}

/// A value as one cell: text without quotes, nothing as `-`.
pub(crate) fn cell(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) if text.is_empty() => "\"\"".to_owned(),
        Json::String(text) => text.clone(),
        Json::Bool(true) => "yes".to_owned(),
        Json::Bool(false) => "no".to_owned(),
        Json::Array(items) if items.iter().all(|i| i.is_string() || i.is_number()) && !items.is_empty() => {
            items.iter().map(cell).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Names come from elsewhere: what would move the cursor or colour the terminal is shown, not done.
pub(crate) fn visible(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let mut table = Table::new(&["NAME", "N", "STATE"], &[1]);
        table.row(["über".into(), "7".into(), "healthy".into()]);
        table.row(["longer name".into(), "1200".into(), String::new()]);
        assert_eq!(table.text(), "NAME            N  STATE\nüber            7  healthy\nlonger name  1200\n");
        assert_eq!(Table::pairs().text(), "");
    }

    #[test]
    fn an_object_is_a_line_a_field() {
        let object =
            json!({ "a": { "b": "x", "c": {} }, "d": null, "e": [1, "y"], "f": true, "g": [{ "h": 1 }] });
        let text = "f    yes\na.b  x\na.c  {}\nd    -\ne    1, y\ng    [{\"h\":1}]\n";
        assert_eq!(fields(&object, &["f", "absent"]), text);
    }

    #[test]
    fn control_characters_are_shown_and_not_done() {
        assert_eq!(visible("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        let mut table = Table::pairs();
        table.row(["a\r".into()]);
        assert_eq!(table.text(), "a\\r\n");
    }
}
