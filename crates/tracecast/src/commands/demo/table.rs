//! The demo's table and colours. Plain text when the output is not a terminal.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value as Json;
use tracecast_loadkit::sink::Stats;

/// What one destination got, by its books and by its stand-in's count.
pub(super) struct Row {
    pub(super) name: String,
    kind: String,
    what: String,
    pub(super) accepted: u64,
    pub(super) selected: u64,
    pub(super) skipped_total: u64,
    skipped: [u64; 4],
    pub(super) delivered: u64,
    pub(super) dead_lettered: u64,
    pub(super) dropped: u64,
    pub(super) pending: u64,
    bytes: u64,
    p50_ms: f64,
    p99_ms: f64,
    /// Distinct spans at the stand-in, and those with prompt or answer.
    pub(super) arrived: u64,
    pub(super) with_content: u64,
    pub(super) private: bool,
    last_error: Option<String>,
}

const SKIPS: [&str; 4] = ["sampled", "filter", "key", "region"];

impl Row {
    pub(super) fn new(name: &str, kind: &str, what: &str, stats: &Json, sink: Stats) -> Row {
        let n = |key: &str| stats[key].as_u64().unwrap_or(0);
        let sum = |key: &str| -> u64 {
            stats[key].as_object().map_or(0, |m| m.values().filter_map(Json::as_u64).sum())
        };
        Row {
            name: name.to_owned(),
            kind: kind.to_owned(),
            what: what.to_owned(),
            accepted: n("accepted"),
            selected: n("selected"),
            skipped_total: sum("skipped"),
            skipped: SKIPS.map(|r| stats["skipped"][r].as_u64().unwrap_or(0)),
            delivered: n("delivered"),
            dead_lettered: n("dead_lettered"),
            dropped: sum("dropped"),
            pending: n("pending"),
            bytes: n("bytes_sent"),
            p50_ms: stats["latency_p50_ms"].as_f64().unwrap_or(0.0),
            p99_ms: stats["latency_p99_ms"].as_f64().unwrap_or(0.0),
            arrived: sink.distinct_ids,
            with_content: sink.spans_with_content,
            private: name.contains("private"),
            last_error: stats["last_error"]["excerpt"].as_str().map(str::to_owned),
        }
    }
}

pub(super) fn print(rows: &[Row], style: &Style) {
    let header = format!(
        "{:<22} {:<15} {:>8} {:>8} {:>7} {:>6} {:>9} {:>9} {:>8} {:>8}",
        "destination", "type", "selected", "sampled", "filter", "key", "delivered", "sent", "p50", "p99"
    );
    println!("{}", style.dim(&header));
    for row in rows {
        println!(
            "{:<22} {:<15} {:>8} {:>8} {:>7} {:>6} {} {:>9} {:>8} {:>8}",
            row.name,
            row.kind,
            row.selected,
            dash(row.skipped[0]),
            dash(row.skipped[1]),
            dash(row.skipped[2]),
            style.green(&format!("{:>9}", row.delivered)),
            bytes(row.bytes),
            format!("{:.0} ms", row.p50_ms),
            format!("{:.0} ms", row.p99_ms),
        );
        println!("{}", style.dim(&format!("  {}", row.what)));
        if let Some(error) = &row.last_error {
            println!("{}", style.red(&format!("  last error: {error}")));
        }
    }
    println!("{}", style.dim("sampled, filter, key: spans not sent, by the rule that said no. p50, p99: from accepted here to accepted there."));
}

fn dash(n: u64) -> String {
    if n == 0 { "-".to_owned() } else { n.to_string() }
}

fn bytes(n: u64) -> String {
    if n >= 1_000_000 { format!("{:.1} MB", n as f64 / 1e6) } else { format!("{:.0} kB", n as f64 / 1e3) }
}

/// Colours and progress, if a person is watching.
#[derive(Clone, Copy)]
pub(super) struct Style {
    terminal: bool,
    colour: bool,
}

impl Style {
    pub(super) fn detect() -> Style {
        let terminal = std::io::stdout().is_terminal();
        Style { terminal, colour: terminal && std::env::var_os("NO_COLOR").is_none() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    /// A line that overwrites itself; nothing when piped.
    pub(super) fn progress(&self, done: usize, of: usize, what: &str) {
        if !self.terminal {
            return;
        }
        let width = 30;
        let full = done * width / of.max(1);
        print!("\r  [{}{}] {done}/{of} {what}", "#".repeat(full), ".".repeat(width - full));
        let _ = std::io::stdout().flush();
    }

    pub(super) fn progress_done(&self) {
        if self.terminal {
            print!("\r\x1b[2K");
        }
    }
}
