//! `tracecast log`: looks at the log of a data directory, whether a gateway runs on it or not. Writes nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use tracecast_log::{LogError, inspect};
use tracecast_otlp::Payload;
use uuid::Uuid;

use crate::Exit;
use crate::otlp_text::otlp_text;
use crate::output::{Table, print, say, visible};
use crate::runtime::time;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the segment files.
    Ls(Place),
    /// Read everything and check every checksum; exit code 1 if something is damaged.
    Verify(Place),
    /// List the records that are still held, a line each; with --sequence the spans of one.
    Cat {
        #[command(flatten)]
        place: Place,
        /// Show the spans of this record as OTLP JSON.
        #[arg(long, value_name = "N")]
        sequence: Option<u64>,
    },
    /// Write the spans of all records that are still held: a line of OTLP JSON each.
    Export(Place),
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The gateway's data directory.
    #[arg(long, value_name = "DIR", default_value = "./tracecast-data")]
    data_dir: PathBuf,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Exit {
    let done = match &args.action {
        Action::Ls(place) => place.with_log(|log| ls(log, place.json)),
        Action::Verify(place) => place.with_log(|log| verify(log, place.json)),
        Action::Cat { place, sequence: None } => place.with_log(|log| cat(log, place.json)),
        Action::Cat { place, sequence: Some(sequence) } => place.with_log(|log| one(log, *sequence)),
        Action::Export(place) => place.with_log(export),
    };
    done.unwrap_or_else(|error| {
        say(&visible(&format!("tracecast: {error}")));
        Exit::Io
    })
}

impl Place {
    fn with_log(&self, work: impl FnOnce(&Path) -> Result<Exit, LogError>) -> Result<Exit, LogError> {
        let log = self.data_dir.join("log");
        if !log.join("segments").is_dir() {
            say(&visible(&format!("tracecast: {} holds no log: check --data-dir", self.data_dir.display())));
            return Ok(Exit::Io);
        }
        work(&log)
    }
}

fn ls(log: &Path, json: bool) -> Result<Exit, LogError> {
    let segments = inspect::list(log)?;
    if json {
        let all: Vec<Json> = segments
            .iter()
            .map(|s| {
                json!({
                    "path": s.path, "number": s.number, "first_sequence": s.sequences.map(|(first, _)| first),
                    "last_sequence": s.sequences.map(|(_, last)| last), "records": s.records,
                    "record_bytes": s.record_bytes, "file_bytes": s.file_bytes, "sealed": s.sealed, "free": s.free,
                })
            })
            .collect();
        print(&format!("{}\n", Json::Array(all)));
        return Ok(Exit::Fine);
    }
    let heading = ["FILE", "SEGMENT", "FIRST", "LAST", "RECORDS", "BYTES", "FILE BYTES", "STATE"];
    let mut table = Table::new(&heading, &[1, 2, 3, 4, 5, 6]);
    for segment in &segments {
        let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        let state = match (segment.number, segment.free, segment.sealed) {
            (None, true, _) => "unused",
            (None, false, _) => "not understood",
            (Some(_), true, _) => "free",
            (Some(_), false, true) => "sealed",
            (Some(_), false, false) => "open",
        };
        table.row([
            segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            number(segment.number),
            number(segment.sequences.map(|(first, _)| first)),
            number(segment.sequences.map(|(_, last)| last)),
            segment.records.to_string(),
            segment.record_bytes.to_string(),
            segment.file_bytes.to_string(),
            state.to_owned(),
        ]);
    }
    print(&table.text());
    Ok(Exit::Fine)
}

fn verify(log: &Path, json: bool) -> Result<Exit, LogError> {
    let inspect::Report { segments, records, journal_entries, problems } = inspect::verify(log)?;
    let exit = if problems.is_empty() { Exit::Fine } else { Exit::No };
    if json {
        let report = json!({
            "segments": segments, "records": records, "journal_entries": journal_entries, "problems": problems,
        });
        print(&format!("{report}\n"));
        return Ok(exit);
    }
    print(&format!("{segments} segments, {records} records, {journal_entries} journal entries read\n"));
    for problem in &problems {
        print(&format!("{}\n", visible(problem)));
    }
    say(if problems.is_empty() { "nothing is damaged" } else { "the log is damaged" });
    Ok(exit)
}

fn cat(log: &Path, json: bool) -> Result<Exit, LogError> {
    let destinations = inspect::slots(log)?;
    let name = |slot: u32| {
        let known = destinations.iter().find(|(of, _)| *of == slot);
        known.map_or(slot.to_string(), |(_, key)| Uuid::from_bytes(*key).to_string())
    };
    let mut table = Table::new(&["SEQUENCE", "RECEIVED", "WORKSPACE", "SPANS", "BYTES", "FOR"], &[0, 3, 4]);
    for record in inspect::list_records(log)? {
        let received = time(Some(record.received_unix_nano));
        let workspace = Uuid::from_bytes(record.workspace).to_string();
        if json {
            let routes: Vec<Json> = record
                .routes
                .iter()
                .map(|(slot, spans)| json!({ "destination_id": name(*slot), "spans": spans }))
                .collect();
            let line = json!({
                "sequence": record.sequence, "received_at": received, "workspace_id": workspace,
                "accepted": record.accepted, "bytes": record.payload_bytes, "routes": routes,
            });
            print(&format!("{line}\n"));
            continue;
        }
        let routes: Vec<String> =
            record.routes.iter().map(|(slot, spans)| format!("{} ({spans})", name(*slot))).collect();
        table.row([
            record.sequence.to_string(),
            received.as_str().unwrap_or("-").to_owned(),
            workspace,
            record.accepted.to_string(),
            record.payload_bytes.to_string(),
            if routes.is_empty() { "nobody".to_owned() } else { routes.join(", ") },
        ]);
    }
    if !json {
        print(&table.text());
    }
    Ok(Exit::Fine)
}

fn one(log: &Path, sequence: u64) -> Result<Exit, LogError> {
    let mut found = None;
    inspect::read_records(log, |record, payload| {
        if record.sequence == sequence {
            found = Some(payload);
        }
    })?;
    match found.map(|payload| payload.map(|payload| text(&payload))) {
        Some(Ok(text)) => {
            print(&format!("{text}\n"));
            Ok(Exit::Fine)
        }
        Some(Err(why)) => {
            say(&visible(&format!("tracecast: record {sequence}: {why}")));
            Ok(Exit::No)
        }
        None => {
            say(&format!(
                "tracecast: record {sequence} is not held: `tracecast log cat` lists those that are"
            ));
            Ok(Exit::No)
        }
    }
}

fn export(log: &Path) -> Result<Exit, LogError> {
    let mut exit = Exit::Fine;
    inspect::read_records(log, |record, payload| match payload {
        Ok(payload) if payload.spans() == 0 => {}
        Ok(payload) => print(&format!("{}\n", text(&payload))),
        Err(why) => {
            say(&visible(&format!("tracecast: record {}: {why}", record.sequence)));
            exit = Exit::No;
        }
    })?;
    Ok(exit)
}

/// The spans as OTLP JSON.
fn text(payload: &Payload) -> String {
    let Ok(traces) = payload.traces() else { return "{}".to_owned() };
    String::from_utf8_lossy(&otlp_text(traces, None)).into_owned()
}
