//! What the control plane asks about dead letters and single events, in its own words.

use serde_json::{Map, Value as Json};
use tracecast_destination::Issue;

/// Which dead letters are meant: those for which everything given here is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// This one.
    pub id: Option<u64>,
    /// The word for why it was given up; the runtime knows them.
    pub reason: Option<String>,
    /// Given up at this time or later, unix nanoseconds.
    pub from_unix_nano: Option<u64>,
    /// Given up before this time, unix nanoseconds.
    pub to_unix_nano: Option<u64>,
}

/// A page of dead letters.
#[derive(Clone, Debug, Default)]
pub struct Letters {
    /// The letters, oldest first, without their spans.
    pub page: Vec<Json>,
    /// Of all pages.
    pub total: u64,
    /// How many there are of each reason, of all pages.
    pub by_reason: Map<String, Json>,
    /// Letters that wait for their turn to be sent again.
    pub replaying: u64,
}

/// Why the runtime did not do it.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The request makes no sense.
    Invalid(Vec<Issue>),
    /// Not possible at the moment.
    Unavailable(String),
}
