//! What does not apply to a kind, and why. A cell that stands here and holds all the same fails, so that the table
//! cannot outlive its reasons.

use tracecast_destination::Kind;

/// A cell, the kinds that need not keep it, and why.
pub(super) const EXEMPT: &[(&str, &[Kind], &str)] = &[
    (
        "too_large_is_halved",
        &[Kind::S3],
        "one object holds the spans of one trace of one item: it is refused alone, the others are stored",
    ),
    (
        "a_wait_is_kept",
        &[Kind::Clickhouse],
        "the official client hides the headers of an answer; waits come from the error code",
    ),
    (
        "a_part_refused_is_final",
        &[
            Kind::Webhook,
            Kind::Clickhouse,
            Kind::Datadog,
            Kind::Braintrust,
            Kind::Langsmith,
            Kind::Opik,
            Kind::Posthog,
            Kind::Snowflake,
            Kind::Weave,
        ],
        "the vendor takes a request as a whole or not at all",
    ),
    (
        "a_part_refused_is_final",
        &[Kind::Sentry],
        "Relay answers 202 with an empty body and drops later, unseen",
    ),
    ("a_megabyte_arrives", &[Kind::Newrelic], "values end at 4,095 characters; cut with a visible end"),
    ("a_megabyte_arrives", &[Kind::Weave], "values over 1 MiB are replaced there; cut at 900,000 characters"),
];

/// How often a 404 is answered by trying another way of speaking to the server, before it counts.
pub(super) const OTHER_ROUTES: &[(Kind, usize)] =
    &[(Kind::Langsmith, 1), (Kind::Posthog, 1), (Kind::Weave, 1)];

/// The official client hides the status of an answer that has words.
pub(super) const STATUS_HIDDEN: &[Kind] = &[Kind::Clickhouse];

/// Whose connection tests read before they write; all others write at once.
pub(super) const READS_FIRST: &[Kind] =
    &[Kind::Braintrust, Kind::Clickhouse, Kind::Datadog, Kind::Opik, Kind::Snowflake, Kind::Weave];
