//! Which spans a destination's shape has a place for, decided at arrival.

use tracecast_destination::Kind;
use tracecast_otlp::SpanView;

/// True for the spans a kind can express, alone or folded into another item.
pub(crate) type Accepts = fn(SpanView<'_>) -> bool;

/// The static table: `None` = the kind takes every span. Spans it does not accept are skipped as `kind`.
pub(crate) fn accepts(kind: Kind) -> Option<Accepts> {
    match kind {
        Kind::Arize
        | Kind::Braintrust
        | Kind::Clickhouse
        | Kind::Datadog
        | Kind::Grafana
        | Kind::Langfuse
        | Kind::Langsmith
        | Kind::Newrelic
        | Kind::Opik
        | Kind::OtelCollector
        | Kind::Posthog
        | Kind::Ramp
        | Kind::S3
        | Kind::Sentry
        | Kind::Snowflake
        | Kind::Weave
        | Kind::Webhook => None,
    }
}
