//! The gateway's metrics: what there is, and its figures at this moment.

use tracecast_delivery::State;
use tracecast_destination::Destination;
use tracecast_ingest::{Bound, Reason};
use tracecast_log::{DeadReason, DropReason, Durations, SkipReason};
use tracecast_telemetry::{Histogram, HistogramSeries, Instrument, Kind as Measure, Series, Source};

use super::GatewayRuntime;
use super::stats::{age_seconds, oldest_seconds};
use crate::known::Known;

/// Every metric of the gateway, in the names of the public interface.
pub(crate) const INSTRUMENTS: &[Instrument] = &[
    counter("tracecast_events_accepted_total", "Spans accepted, selected by a destination or not."),
    counter("tracecast_events_rejected_total", "Spans and requests refused, by reason."),
    counter(
        "tracecast_events_duplicate_total",
        "Spans that came again and were answered as their first copy was.",
    ),
    counter(
        "tracecast_operational_events_lost_total",
        "Changes of a destination's state that could not be reported to operations.destination.",
    ),
    counter("tracecast_destination_selected_total", "Spans the destination's rules selected."),
    counter(
        "tracecast_destination_requeued_total",
        "Spans replayed or backfilled, and changes of state reported.",
    ),
    counter("tracecast_destination_skipped_total", "Spans the rules did not select, by reason."),
    counter("tracecast_destination_delivered_total", "Spans the destination accepted."),
    counter(
        "tracecast_destination_dead_lettered_total",
        "Spans the destination refused for good, by reason.",
    ),
    counter("tracecast_destination_dropped_total", "Spans given up, by reason."),
    counter("tracecast_destination_attempts_total", "Requests made, by the class of their answer."),
    counter(
        "tracecast_destination_bisect_requests_total",
        "Requests made to find the spans a destination refuses.",
    ),
    counter("tracecast_destination_transitions_total", "Changes of state, by the state entered."),
    histogram(
        "tracecast_destination_delivery_latency_seconds",
        "From a span's acceptance here to its acceptance there.",
    ),
    gauge("tracecast_destination_retry_wait_seconds", "How long nothing is sent because of earlier answers."),
    gauge("tracecast_destination_pending_events", "Spans waiting to be delivered."),
    gauge("tracecast_destination_pending_bytes", "Bytes waiting to be delivered."),
    gauge("tracecast_destination_oldest_pending_seconds", "Age of the oldest span that waits."),
    gauge("tracecast_destination_in_flight", "Requests under way."),
    gauge("tracecast_destination_state", "1 for the state the destination is in."),
    gauge("tracecast_destination_dead_letters", "Dead letters kept."),
    gauge(
        "tracecast_destination_dlq_oldest_seconds",
        "Age of the oldest dead letter, since it was given up.",
    ),
    gauge("tracecast_destination_info", "Always 1; carries name and workspace."),
    histogram("tracecast_log_sync_seconds", "Time a sync of the log took."),
    histogram("tracecast_ingest_request_seconds", "Time from a request's head to its answer."),
    gauge("tracecast_ingest_connections", "Connections of clients, of both ingest listeners."),
    counter(
        "tracecast_ingest_connections_refused_total",
        "Connections closed because there were too many: in all, from their address, of their workspace.",
    ),
    gauge("tracecast_log_bytes", "Bytes the log holds, those of files kept to be written again among them."),
    gauge("tracecast_log_used_bytes", "Bytes of tracecast_log_max_bytes that are in use."),
    gauge("tracecast_log_max_bytes", "The cap of the log: log.max_bytes, or what the disk had room for."),
    gauge("tracecast_log_max_age_seconds", "How long an event is tried before it is given up."),
    counter("tracecast_quarantined_bytes_total", "Damaged bytes of the log that were set aside."),
    counter("tracecast_sequence_gaps_total", "Records of the log known to have existed that are gone."),
    counter("tracecast_journal_gaps_total", "Spans whose settlement is known and whose record is gone."),
    counter("tracecast_dead_letters_dropped_total", "Dead letters let go of for their age or their caps."),
    counter("tracecast_identity_ignored_total", "Spans whose stated identity their key may not state."),
    counter("tracecast_credentials_removed_total", "Fields of JSON events that looked like credentials."),
    counter(
        "tracecast_privacy_failed_closed_total",
        "Attributes removed by privacy mode only because nothing is known of them.",
    ),
    counter(
        "tracecast_traces_forgotten_total",
        "Traces whose sampling key or verdicts were forgotten early, because more came than can be remembered.",
    ),
    gauge(
        "tracecast_memory_used_bytes",
        "Bytes accounted for: requests in progress, sends, caches and memories, the log in memory mode.",
    ),
    gauge("tracecast_memory_max_bytes", "What tracecast_memory_used_bytes can be at most."),
    gauge("tracecast_build_info", "Always 1; carries the version."),
];

const fn counter(name: &'static str, help: &'static str) -> Instrument {
    Instrument { name, help, kind: Measure::Counter }
}

const fn histogram(name: &'static str, help: &'static str) -> Instrument {
    Instrument { name, help, kind: Measure::Histogram }
}

const fn gauge(name: &'static str, help: &'static str) -> Instrument {
    Instrument { name, help, kind: Measure::Gauge }
}

impl Source for GatewayRuntime {
    fn series(&self, name: &str) -> Vec<Series> {
        let one = |value: u64| vec![(Vec::new(), value as f64)];
        match name {
            "tracecast_events_accepted_total" => one(self.log.accepted()),
            "tracecast_events_rejected_total" => self.ingest.get().map_or(Vec::new(), |ingest| {
                Reason::ALL
                    .iter()
                    .map(|r| (vec![("reason", r.as_str().to_owned())], ingest.counters().rejected(*r) as f64))
                    .collect()
            }),
            "tracecast_events_duplicate_total" => {
                self.ingest.get().map_or(Vec::new(), |i| one(i.counters().duplicates()))
            }
            "tracecast_ingest_connections" => {
                self.connections.get().map_or(Vec::new(), |connections| one(connections.open() as u64))
            }
            "tracecast_ingest_connections_refused_total" => {
                self.connections.get().map_or(Vec::new(), |connections| {
                    let figure =
                        |b: &Bound| (vec![("bound", b.as_str().to_owned())], connections.refused(*b) as f64);
                    Bound::ALL.iter().map(figure).collect()
                })
            }
            "tracecast_operational_events_lost_total" => one(self.operations.lost()),
            "tracecast_log_bytes" => one(self.log.bytes()),
            "tracecast_log_used_bytes" => one(self.log.used_bytes()),
            "tracecast_log_max_bytes" => one(self.log.max_bytes()),
            "tracecast_log_max_age_seconds" => one(self.bounds.max_age.as_secs()),
            "tracecast_memory_used_bytes" => one(self.memory_bytes()),
            "tracecast_memory_max_bytes" => one(self.bounds.memory_bytes),
            "tracecast_quarantined_bytes_total" => one(self.log.damage().quarantined_bytes),
            "tracecast_sequence_gaps_total" => one(self.log.damage().records),
            "tracecast_journal_gaps_total" => one(self.log.damage().journal_spans),
            "tracecast_dead_letters_dropped_total" => one(self.log.dead_letters().dropped()),
            "tracecast_identity_ignored_total" => {
                self.ingest.get().map_or(Vec::new(), |i| one(i.counters().identity_ignored()))
            }
            "tracecast_credentials_removed_total" => {
                self.ingest.get().map_or(Vec::new(), |i| one(i.counters().credentials_removed()))
            }
            "tracecast_privacy_failed_closed_total" => one(tracecast_genai::failed_closed()),
            "tracecast_traces_forgotten_total" => {
                self.ingest.get().map_or(Vec::new(), |i| one(i.traces_forgotten()))
            }
            "tracecast_build_info" => {
                vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)]
            }
            _ => {
                let mut series = Vec::new();
                for known in self.known.all() {
                    self.destination_series(name, &known, &mut series);
                }
                series
            }
        }
    }

    fn histograms(&self, name: &str) -> Vec<HistogramSeries> {
        let one = |durations: &Durations| {
            let figures = Histogram {
                buckets: durations.buckets(),
                sum: durations.seconds(),
                count: durations.total(),
            };
            vec![(Vec::new(), figures)]
        };
        match name {
            "tracecast_destination_delivery_latency_seconds" => {}
            "tracecast_log_sync_seconds" => return one(self.log.syncs()),
            "tracecast_ingest_request_seconds" => {
                return self.ingest.get().map_or(Vec::new(), |ingest| one(ingest.answered()));
            }
            _ => return Vec::new(),
        }
        let series = self.known.all().into_iter().filter_map(|known| {
            let latency = self.delivery.stats(known.destination.id)?.latency;
            let figures =
                Histogram { buckets: latency.buckets, sum: latency.sum_seconds, count: latency.count };
            Some((destination_labels(&known.destination), figures))
        });
        series.collect()
    }
}

/// What tells the series of a destination from the others.
fn destination_labels(destination: &Destination) -> Vec<(&'static str, String)> {
    vec![("destination", destination.id.to_string()), ("type", destination.config.kind().as_str().to_owned())]
}

impl GatewayRuntime {
    fn destination_series(&self, name: &str, known: &Known, series: &mut Vec<Series>) {
        let id = known.destination.id;
        let labels = destination_labels(&known.destination);
        let mut push = |extra: Option<(&'static str, &str)>, value: f64| {
            let mut labels = labels.clone();
            labels.extend(extra.map(|(name, value)| (name, value.to_owned())));
            series.push((labels, value));
        };
        let Some(what) = name.strip_prefix("tracecast_destination_") else { return };
        if what == "info" {
            let mut labels = labels.clone();
            labels.push(("name", known.destination.name.clone()));
            labels.push(("workspace", known.destination.workspace_id.to_string()));
            series.push((labels, 1.0));
            return;
        }
        if matches!(
            what,
            "attempts_total"
                | "bisect_requests_total"
                | "transitions_total"
                | "retry_wait_seconds"
                | "in_flight"
                | "state"
        ) {
            let Some(live) = self.delivery.stats(id) else { return };
            match what {
                "attempts_total" => {
                    for (class, n) in &live.attempts_by_class {
                        push(Some(("class", *class)), *n as f64);
                    }
                }
                "bisect_requests_total" => push(None, live.bisect_requests as f64),
                "transitions_total" => {
                    for (state, n) in &live.transitions {
                        push(Some(("state", *state)), *n as f64);
                    }
                }
                "retry_wait_seconds" => push(None, live.retry_wait.as_secs_f64()),
                "in_flight" => push(None, f64::from(live.in_flight)),
                _ => {
                    for state in State::ALL {
                        push(Some(("state", state.as_str())), f64::from(u8::from(state == live.state)));
                    }
                }
            }
            return;
        }
        let books = self.log.books(known.slot);
        match what {
            "selected_total" => push(None, books.selected as f64),
            "requeued_total" => push(None, books.requeued as f64),
            "delivered_total" => push(None, books.delivered as f64),
            "skipped_total" => {
                for r in SkipReason::ALL {
                    push(Some(("reason", r.as_str())), books.skipped[*r as usize] as f64);
                }
            }
            "dead_lettered_total" => {
                for r in DeadReason::ALL {
                    push(Some(("reason", r.as_str())), books.dead_lettered[*r as usize] as f64);
                }
            }
            "dropped_total" => {
                for r in DropReason::ALL {
                    push(Some(("reason", r.as_str())), books.dropped[*r as usize] as f64);
                }
            }
            "pending_events" => push(None, books.pending as f64),
            "pending_bytes" => push(None, books.pending_bytes as f64),
            "oldest_pending_seconds" => push(None, oldest_seconds(&books)),
            "dlq_oldest_seconds" => push(None, age_seconds(self.log.dead_letters().oldest(known.slot))),
            "dead_letters" => push(None, self.log.dead_letters().count(known.slot) as f64),
            _ => {}
        }
    }
}
