//! The fault table: one line per scenario, printed, and collected in `target/fault-table.md`.

use std::path::{Path, PathBuf};

/// The scenarios in the order of the table, by the name of their test.
const ORDER: &[&str] = &[
    "sigkill_at_fifty_moments",
    "twenty_rolling_restarts",
    "sigterm_with_all_destinations_hung",
    "a_full_disk",
    "a_disk_that_errs",
    "two_hundred_corruptions",
    "every_fault_and_then_recovery",
    "every_form_of_retry_after",
    "partial_success_of_every_shape",
    "poison_among_a_thousand",
    "nine_of_seventeen_fail",
    "a_thousand_tenants",
    "ten_thousand_destinations",
    "canaries_in_the_storm",
    "a_panic_tells_no_secret",
];

/// One line of the table.
pub(crate) struct Row<'a> {
    /// The test's name; its place in [`ORDER`] is the line's place.
    pub(crate) test: &'a str,
    pub(crate) fault: &'a str,
    pub(crate) load: String,
    pub(crate) expected: &'a str,
    pub(crate) measured: String,
}

impl Row<'_> {
    /// Prints the line and renews the collected table. Lines of scenarios that did not run now stay.
    pub(crate) fn record(&self) {
        let place = ORDER.iter().position(|name| *name == self.test).expect("the scenario has a place");
        let line = format!(
            "| {} | {} | {} | {} | `cargo test -p tracecast-tests --test faults {}` |\n",
            self.fault, self.load, self.expected, self.measured, self.test
        );
        println!("{line}");
        let rows = target().join("fault-table");
        std::fs::create_dir_all(&rows).expect("the directory of the table");
        std::fs::write(rows.join(format!("{place:02}.md")), line).expect("a line of the table");
        let mut table =
            "| fault | load | expected | measured | command |\n|---|---|---|---|---|\n".to_owned();
        for place in 0..ORDER.len() {
            table += &std::fs::read_to_string(rows.join(format!("{place:02}.md"))).unwrap_or_default();
        }
        std::fs::write(target().join("fault-table.md"), table).expect("the table");
    }
}

fn target() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).to_owned()
}
