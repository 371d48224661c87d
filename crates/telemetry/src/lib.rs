//! The gateway's own logs and metrics.
//!
//! Figures are plain atomics and books elsewhere; here they become OpenTelemetry observable instruments, read
//! when somebody asks: by Prometheus at `/metrics`, and by a push over OTLP/HTTP if a URL is set. Both show
//! the same numbers.

mod histogram;
mod panics;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder as _, Registry, TextEncoder};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use histogram::{Histogram, HistogramSeries};

/// A metric the gateway publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Prometheus name. A counter's ends in `_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it counts.
    pub kind: Kind,
}

/// What the figures of an instrument mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows; [`Source::series`].
    Counter,
    /// Goes up and down; [`Source::series`].
    Gauge,
    /// How often which values were seen; [`Source::histograms`].
    Histogram,
}

/// One value of an instrument: label names and values, and the figure.
pub type Series = (Vec<(&'static str, String)>, f64);

/// Where the figures are read from.
pub trait Source: Send + Sync + 'static {
    /// The current series of the counter or gauge of that name.
    fn series(&self, name: &str) -> Vec<Series>;
    /// The current series of the histogram of that name.
    fn histograms(&self, _name: &str) -> Vec<HistogramSeries> {
        Vec::new()
    }
}

/// A metric exporter could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct Error(String);

/// The published metrics.
pub struct Metrics {
    registry: Registry,
    histograms: Vec<Instrument>,
    source: Arc<dyn Source>,
    providers: Vec<SdkMeterProvider>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("providers", &self.providers).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Publishes `instruments`, read from `source`; pushes them to `otlp` (a full URL) every 15 s if given.
    pub fn new(
        instruments: &[Instrument],
        source: Arc<dyn Source>,
        otlp: Option<&str>,
        instance: &str,
    ) -> Result<Metrics, Error> {
        let registry = Registry::new();
        let pull = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .without_units()
            .build()
            .map_err(|e| Error(e.to_string()))?;
        let resource = Resource::builder()
            .with_service_name("tracecast")
            .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
            .build();
        let provider = || SdkMeterProvider::builder().with_resource(resource.clone());
        let pulled = provider().with_reader(pull).build();
        observe(&pulled.meter("tracecast"), instruments, &source);
        let mut providers = vec![pulled];
        if let Some(url) = otlp {
            let exporter = MetricExporter::builder()
                .with_http()
                .with_endpoint(url)
                .with_timeout(Duration::from_secs(10))
                .build()
                .map_err(|e| Error(e.to_string()))?;
            let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_secs(15)).build();
            let pushed = provider().with_reader(reader).build();
            let meter = pushed.meter("tracecast");
            observe(&meter, instruments, &source);
            let histograms = instruments.iter().filter(|i| i.kind == Kind::Histogram);
            histograms.for_each(|instrument| histogram::observe(&meter, instrument, &source));
            providers.push(pushed);
        }
        let histograms = instruments.iter().filter(|i| i.kind == Kind::Histogram).copied().collect();
        Ok(Metrics { registry, histograms, source, providers })
    }

    /// The Prometheus text.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        let mut families = self.registry.gather();
        families.extend(self.histograms.iter().filter_map(|i| histogram::family(i, &*self.source)));
        if let Err(error) = TextEncoder::new().encode(&families, &mut out) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        String::from_utf8(out).unwrap_or_default()
    }

    /// Pushes what is left and stops.
    pub fn shutdown(&self) {
        for provider in &self.providers {
            if let Err(error) = provider.shutdown() {
                tracing::debug!(%error, "metrics did not stop cleanly");
            }
        }
    }
}

/// Counters and gauges, read when asked for.
fn observe(meter: &Meter, instruments: &[Instrument], source: &Arc<dyn Source>) {
    for Instrument { name, help, kind } in instruments.iter().copied() {
        let source = source.clone();
        match kind {
            Kind::Counter => {
                // The Prometheus exporter adds `_total` itself.
                let base = name.strip_suffix("_total").unwrap_or(name);
                meter
                    .f64_observable_counter(base)
                    .with_description(help)
                    .with_callback(move |observer| {
                        for (labels, value) in source.series(name) {
                            observer.observe(value, &attributes(labels));
                        }
                    })
                    .build();
            }
            Kind::Gauge => {
                meter
                    .f64_observable_gauge(name)
                    .with_description(help)
                    .with_callback(move |observer| {
                        for (labels, value) in source.series(name) {
                            observer.observe(value, &attributes(labels));
                        }
                    })
                    .build();
            }
            Kind::Histogram => {}
        }
    }
}

fn attributes(labels: Vec<(&'static str, String)>) -> Vec<KeyValue> {
    labels.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect()
}

/// Logs go to stderr. `TRACECAST_LOG` filters them (`info` by default), `TRACECAST_LOG_FORMAT=json` makes
/// them one JSON object a line.
///
/// Below `info` only our own code speaks, whatever the filter says: client libraries write requests and
/// answers there, with credentials and content. Panics are logged as well, by their place and without their message,
/// which may quote content.
pub fn init_logs() {
    panics::install();
    let filter = EnvFilter::try_from_env("TRACECAST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let ours = filter_fn(|metadata| {
        *metadata.level() <= tracing::Level::INFO || metadata.target().starts_with("tracecast")
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("TRACECAST_LOG_FORMAT").is_ok_and(|f| f == "json");
    // A second call (in tests) finds a logger already there: that one stays.
    let _ = if json {
        builder.json().finish().with(ours).try_init().is_ok()
    } else {
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        builder.with_ansi(colour).with_target(false).finish().with(ours).try_init().is_ok()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Source for Fixed {
        fn series(&self, name: &str) -> Vec<Series> {
            match name {
                "demo_events_total" => {
                    vec![(vec![("reason", "a".into())], 3.0), (vec![("reason", "b\"x".into())], 4.0)]
                }
                "demo_bytes" => vec![(Vec::new(), 17.0)],
                _ => Vec::new(),
            }
        }

        fn histograms(&self, name: &str) -> Vec<HistogramSeries> {
            let seconds = Histogram { buckets: vec![(0.5, 2), (1.0, 5)], sum: 12.5, count: 6 };
            if name == "demo_seconds" { vec![(vec![("kind", "x".into())], seconds)] } else { Vec::new() }
        }
    }

    #[test]
    fn names_labels_and_values_come_out_as_given() {
        let instruments = [
            Instrument { name: "demo_events_total", help: "Events.", kind: Kind::Counter },
            Instrument { name: "demo_bytes", help: "Bytes.", kind: Kind::Gauge },
            Instrument { name: "demo_seconds", help: "Seconds.", kind: Kind::Histogram },
        ];
        let metrics = Metrics::new(&instruments, Arc::new(Fixed), None, "i").unwrap();
        let text = metrics.text();
        assert!(text.contains("demo_events_total{reason=\"a\"} 3\n"), "{text}");
        assert!(text.contains("demo_events_total{reason=\"b\\\"x\"} 4\n"), "{text}");
        assert!(text.contains("demo_bytes 17\n"), "{text}");
        assert!(text.contains("# TYPE demo_events_total counter"), "{text}");
        let histogram = "# HELP demo_seconds Seconds.\n\
            # TYPE demo_seconds histogram\n\
            demo_seconds_bucket{kind=\"x\",le=\"0.5\"} 2\n\
            demo_seconds_bucket{kind=\"x\",le=\"1\"} 5\n\
            demo_seconds_bucket{kind=\"x\",le=\"+Inf\"} 6\n\
            demo_seconds_sum{kind=\"x\"} 12.5\n\
            demo_seconds_count{kind=\"x\"} 6\n";
        assert!(text.contains(histogram), "{text}");
    }
}
