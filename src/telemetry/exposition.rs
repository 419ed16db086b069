//! Metrics as Prometheus reads them, from plain numbers that the callers have at the moment of the scrape.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::Snapshot;

/// Why a scrape has no text: a name that Prometheus does not take, or one name for two kinds.
#[derive(Debug, thiserror::Error)]
pub enum ExpositionError {
    /// A metric or label name outside of `[a-zA-Z_][a-zA-Z0-9_]*` (a metric's may hold `:`).
    #[error("not a metric or label name: {0:?}")]
    Name(String),
    /// The same name was used for another kind before.
    #[error("metric {0} is of two kinds")]
    Kind(String),
    /// The encoder's own.
    #[error("metrics cannot be written: {0}")]
    Encode(#[source] prometheus::Error),
}

/// The bounds of histogram buckets in the text: powers of two of µs from 64 µs on, at which counts are exact.
const BOUNDS: std::ops::RangeInclusive<u32> = 6..=26;

/// The families of one scrape, in the order of their names.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, MetricFamily>,
}

/// Names and values of labels. Values may hold anything; they are escaped.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Adds one number of a counter; by custom its name ends in `_total`.
    ///
    /// # Errors
    /// For a bad name, or a name of two kinds.
    pub fn counter(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
        value: u64,
    ) -> Result<(), ExpositionError> {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut metric = labelled(labels)?;
        metric.set_counter(counter);
        self.add(name, help, MetricType::COUNTER, metric)
    }

    /// Adds one number of a gauge.
    ///
    /// # Errors
    /// For a bad name, or a name of two kinds.
    pub fn gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
        value: f64,
    ) -> Result<(), ExpositionError> {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels)?;
        metric.set_gauge(gauge);
        self.add(name, help, MetricType::GAUGE, metric)
    }

    /// Adds one histogram, in seconds; by custom its name ends in `_seconds`.
    ///
    /// # Errors
    /// For a bad name, or a name of two kinds.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
        value: &Snapshot,
    ) -> Result<(), ExpositionError> {
        let buckets = BOUNDS.map(|bit| {
            let bound = Duration::from_micros(1 << bit);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(value.below(bound));
            bucket
        });
        let mut histogram = prometheus::proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(value.count());
        histogram.set_sample_sum(value.sum().as_secs_f64());
        let mut metric = labelled(labels)?;
        metric.set_histogram(histogram);
        self.add(name, help, MetricType::HISTOGRAM, metric)
    }

    /// The text of all families, format 0.0.4.
    ///
    /// # Errors
    /// When the encoder refuses a family, which the checks above rule out.
    pub fn text(self) -> Result<Vec<u8>, ExpositionError> {
        let families: Vec<_> = self.families.into_values().collect();
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&families, &mut text)
            .map_err(ExpositionError::Encode)?;
        Ok(text)
    }

    fn add(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        metric: Metric,
    ) -> Result<(), ExpositionError> {
        if !is_name(name, true) {
            return Err(ExpositionError::Name(name.to_owned()));
        }
        let family = self.families.entry(name.to_owned()).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family
        });
        if family.get_field_type() != kind {
            return Err(ExpositionError::Kind(name.to_owned()));
        }
        family.mut_metric().push(metric);
        Ok(())
    }
}

fn labelled(labels: Labels<'_>) -> Result<Metric, ExpositionError> {
    let mut pairs = Vec::new();
    for (name, value) in labels {
        if !is_name(name, false) {
            return Err(ExpositionError::Name((*name).to_owned()));
        }
        // A label without a value is the same as none.
        if value.is_empty() {
            continue;
        }
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pairs.push(pair);
    }
    let mut metric = Metric::default();
    metric.set_label(pairs);
    Ok(metric)
}

fn is_name(name: &str, colon: bool) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || (colon && c == ':');
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}
