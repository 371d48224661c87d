//! Histograms that are counted elsewhere, published as they are.
//!
//! OpenTelemetry has no observable histogram. So Prometheus gets one made by hand, and over OTLP the same
//! figures go out as counters under the names Prometheus gives them (`_bucket`, `_sum`, `_count`).

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use prometheus::proto::{Bucket, Histogram as ProtoHistogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::{Instrument, Source, attributes};

/// The figures of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// (upper bound, observations at or below it), ascending; without the one that holds all.
    pub buckets: Vec<(f64, u64)>,
    /// Sum over all observations.
    pub sum: f64,
    /// Observations.
    pub count: u64,
}

/// One histogram of an instrument: label names and values, and the figures.
pub type HistogramSeries = (Vec<(&'static str, String)>, Histogram);

/// For Prometheus. `None` if there is no series.
pub(crate) fn family(instrument: &Instrument, source: &dyn Source) -> Option<MetricFamily> {
    let metrics: Vec<Metric> = source.histograms(instrument.name).into_iter().map(metric).collect();
    if metrics.is_empty() {
        return None;
    }
    let mut family = MetricFamily::default();
    family.set_name(instrument.name.to_owned());
    family.set_help(instrument.help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(metrics);
    Some(family)
}

fn metric((labels, histogram): HistogramSeries) -> Metric {
    let pair = |(name, value): (&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    };
    let bucket = |(bound, count): (f64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut proto = ProtoHistogram::default();
    proto.set_bucket(histogram.buckets.into_iter().map(bucket).collect());
    proto.set_sample_sum(histogram.sum);
    proto.set_sample_count(histogram.count);
    let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
    metric.set_histogram(proto);
    metric
}

/// For OTLP.
pub(crate) fn observe(meter: &Meter, instrument: &Instrument, source: &Arc<dyn Source>) {
    let name = instrument.name;
    let counter = |suffix: &str| {
        meter.f64_observable_counter(format!("{name}_{suffix}")).with_description(instrument.help)
    };
    let read = source.clone();
    counter("bucket")
        .with_callback(move |observer| {
            for (labels, histogram) in read.histograms(name) {
                let labels = attributes(labels);
                let all = std::iter::once((f64::INFINITY, histogram.count));
                for (bound, count) in histogram.buckets.into_iter().chain(all) {
                    let le = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                    let mut labels = labels.clone();
                    labels.push(KeyValue::new("le", le));
                    observer.observe(count as f64, &labels);
                }
            }
        })
        .build();
    let read = source.clone();
    counter("sum")
        .with_callback(move |observer| {
            for (labels, histogram) in read.histograms(name) {
                observer.observe(histogram.sum, &attributes(labels));
            }
        })
        .build();
    let read = source.clone();
    counter("count")
        .with_callback(move |observer| {
            for (labels, histogram) in read.histograms(name) {
                observer.observe(histogram.count as f64, &attributes(labels));
            }
        })
        .build();
}
