//! The gateway's own logs and metrics.
//!
//! Figures are plain atomics and books elsewhere; here they become OpenTelemetry observable instruments, read
//! when somebody asks: by Prometheus at `/metrics`, and by a push over OTLP/HTTP if a URL is set. Both show
//! the same numbers.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder as _, Registry, TextEncoder};
use tracing_subscriber::EnvFilter;

/// A metric the gateway publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Prometheus name. A counter's ends in `_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whether it only ever grows.
    pub counter: bool,
}

/// One value of an instrument: label names and values, and the figure.
pub type Series = (Vec<(&'static str, String)>, f64);

/// Where the figures are read from.
pub trait Source: Send + Sync + 'static {
    /// The current series of the instrument of that name.
    fn series(&self, name: &str) -> Vec<Series>;
}

/// A metric exporter could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct Error(String);

/// The published metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
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
        let mut provider = SdkMeterProvider::builder().with_resource(resource).with_reader(pull);
        if let Some(url) = otlp {
            let exporter = MetricExporter::builder()
                .with_http()
                .with_endpoint(url)
                .with_timeout(Duration::from_secs(10))
                .build()
                .map_err(|e| Error(e.to_string()))?;
            let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_secs(15)).build();
            provider = provider.with_reader(reader);
        }
        let provider = provider.build();
        let meter = provider.meter("tracecast");
        for instrument in instruments {
            let Instrument { name, help, counter } = *instrument;
            let source = source.clone();
            if counter {
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
            } else {
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
        }
        Ok(Metrics { registry, provider })
    }

    /// The Prometheus text.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        String::from_utf8(out).unwrap_or_default()
    }

    /// Pushes what is left and stops.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "metrics did not stop cleanly");
        }
    }
}

fn attributes(labels: Vec<(&'static str, String)>) -> Vec<KeyValue> {
    labels.into_iter().map(|(name, value)| KeyValue::new(name, value)).collect()
}

/// Logs go to stderr. `TRACECAST_LOG` filters them (`info` by default), `TRACECAST_LOG_FORMAT=json` makes
/// them one JSON object a line.
pub fn init_logs() {
    let filter = EnvFilter::try_from_env("TRACECAST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("TRACECAST_LOG_FORMAT").is_ok_and(|f| f == "json");
    // A second call (in tests) finds a logger already there: that one stays.
    let _ = if json {
        builder.json().try_init().is_ok()
    } else {
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        builder.with_ansi(colour).with_target(false).try_init().is_ok()
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
    }

    #[test]
    fn names_labels_and_values_come_out_as_given() {
        let instruments = [
            Instrument { name: "demo_events_total", help: "Events.", counter: true },
            Instrument { name: "demo_bytes", help: "Bytes.", counter: false },
        ];
        let metrics = Metrics::new(&instruments, Arc::new(Fixed), None, "i").unwrap();
        let text = metrics.text();
        assert!(text.contains("demo_events_total{reason=\"a\"} 3\n"), "{text}");
        assert!(text.contains("demo_events_total{reason=\"b\\\"x\"} 4\n"), "{text}");
        assert!(text.contains("demo_bytes 17\n"), "{text}");
        assert!(text.contains("# TYPE demo_events_total counter"), "{text}");
    }
}
