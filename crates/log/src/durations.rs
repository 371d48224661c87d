//! How long something took: counted by bucket, as metrics show it.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, microseconds: from an answer out of memory to one that nobody waits for any more.
const BOUNDS_MICROS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// Counters of durations since the start of the process.
#[derive(Debug, Default)]
pub struct Durations {
    /// By bucket; the last one holds what is beyond every bound.
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    micros: AtomicU64,
}

impl Durations {
    /// Counts one.
    pub fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.counts.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// (Upper bound in seconds, how many took no longer), ascending.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let mut sum = 0;
        let up_to = |(bound, count): (&u64, &AtomicU64)| {
            sum += count.load(Ordering::Relaxed);
            (*bound as f64 / 1e6, sum)
        };
        BOUNDS_MICROS.iter().zip(&self.counts).map(up_to).collect()
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Their sum, seconds.
    pub fn seconds(&self) -> f64 {
        self.micros.load(Ordering::Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_in_its_bucket_and_all_above() {
        let durations = Durations::default();
        for micros in [0, 100, 101, 5_000, 40_000_000] {
            durations.count(Duration::from_micros(micros));
        }
        let buckets = durations.buckets();
        let up_to = |seconds: f64| buckets.iter().find(|(bound, _)| *bound == seconds).map(|(_, n)| *n);
        assert_eq!(
            [up_to(0.0001), up_to(0.00025), up_to(0.0025), up_to(0.005), up_to(30.0)],
            [2, 3, 3, 4, 4].map(Some)
        );
        assert_eq!(durations.total(), 5);
        assert!((durations.seconds() - 40.005_201).abs() < 1e-9);
    }
}
