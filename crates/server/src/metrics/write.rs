//! Writing metrics: a name, a text, and values with labels.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Labels of one value.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A page being written.
pub(super) struct Writer<'e>(pub(super) DescriptorEncoder<'e>);

impl Writer<'_> {
    /// A counter; `_total` is added to its name.
    pub(super) fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            // An empty set of labels would be written as `{}`.
            if labels.is_empty() {
                metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            } else {
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            }
        }
        Ok(())
    }

    /// A gauge.
    pub(super) fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            if labels.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// A histogram of seconds, from counts by bucket whose bounds are in microseconds; the last count is what is above all bounds.
    pub(super) fn latency(
        &mut self,
        name: &str,
        help: &str,
        bounds_us: &[u64],
        counts: &[u64],
        sum_us: u64,
    ) -> fmt::Result {
        let bounds = bounds_us.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let count = counts.iter().sum();
        self.0.encode_descriptor(name, help, None, MetricType::Histogram)?.encode_histogram::<NoLabelSet>(
            seconds(sum_us),
            count,
            &buckets,
            None,
        )
    }
}

#[allow(clippy::cast_precision_loss, reason = "a measurement for people; 2^53 microseconds are 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// A count as a gauge has it.
#[allow(clippy::cast_precision_loss, reason = "a measurement for people, exact up to 2^53")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}
