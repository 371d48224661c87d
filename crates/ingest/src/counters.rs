//! What ingest refused, ignored or removed, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something did not go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// The body could not be read as what it said it was. Counted once a request.
    Malformed,
    /// A single span or record was bad; the others of its request went on.
    InvalidSpan,
    /// No or unknown credential, or one that may not ingest. Counted once a request.
    Unauthorized,
    /// Body over its limit, as sent or inflated. Counted once a request.
    TooLarge,
    /// Unknown media type or coding. Counted once a request.
    Unsupported,
    /// Memory budget or log full, log not writable, draining. Counted once a request.
    Overloaded,
    /// An asserted workspace that does not exist or is not allowed.
    UnknownWorkspace,
    /// The client went away or stalled before the body was complete. Counted once a request.
    Incomplete,
    /// The request had been sent by this gateway itself. Counted once a request.
    Loop,
    /// The workspace has sent more than its rate allows. Counted once a request, or once a span where the others of its
    /// request were for workspaces that have not.
    RateLimited,
    /// The workspace has more connections than it may. Counted once a request.
    TooManyConnections,
}

impl Reason {
    /// All reasons, in the order of their codes.
    pub const ALL: [Reason; 11] = [
        Reason::Malformed,
        Reason::InvalidSpan,
        Reason::Unauthorized,
        Reason::TooLarge,
        Reason::Unsupported,
        Reason::Overloaded,
        Reason::UnknownWorkspace,
        Reason::Incomplete,
        Reason::Loop,
        Reason::RateLimited,
        Reason::TooManyConnections,
    ];

    /// The metric's label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::InvalidSpan => "invalid_span",
            Reason::Unauthorized => "unauthorized",
            Reason::TooLarge => "too_large",
            Reason::Unsupported => "unsupported",
            Reason::Overloaded => "overloaded",
            Reason::UnknownWorkspace => "unknown_workspace",
            Reason::Incomplete => "incomplete",
            Reason::Loop => "loop",
            Reason::RateLimited => "rate_limited",
            Reason::TooManyConnections => "too_many_connections",
        }
    }
}

/// Monotone counters of the process.
#[derive(Debug, Default)]
pub struct Counters {
    rejected: [AtomicU64; Reason::ALL.len()],
    identity_ignored: AtomicU64,
    credentials_removed: AtomicU64,
    requests: AtomicU64,
    duplicates: AtomicU64,
}

impl Counters {
    pub(crate) fn reject(&self, reason: Reason, n: u64) {
        self.rejected[reason as usize].fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn ignore_identity(&self, spans: u64) {
        self.identity_ignored.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn remove_credentials(&self, n: u64) {
        self.credentials_removed.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn duplicate(&self, spans: u64) {
        self.duplicates.fetch_add(spans, Ordering::Relaxed);
    }

    /// Rejections of one reason (see [`Reason`] for the unit).
    pub fn rejected(&self, reason: Reason) -> u64 {
        self.rejected[reason as usize].load(Ordering::Relaxed)
    }

    /// Spans whose stated identity was removed because their credential may not assert one.
    pub fn identity_ignored(&self) -> u64 {
        self.identity_ignored.load(Ordering::Relaxed)
    }

    /// Fields of `/v1/events` records that looked like credentials and were never stored.
    pub fn credentials_removed(&self) -> u64 {
        self.credentials_removed.load(Ordering::Relaxed)
    }

    /// Requests received, whatever became of them.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Spans answered with success because a copy of them had been kept. They are not counted as accepted.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }
}
