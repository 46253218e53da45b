use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How long the calls of a strategy took, in powers of two of a microsecond.
///
/// ```
/// use std::time::Duration;
///
/// use logitfuse_plugin_host::Timing;
///
/// let timing = Timing::default();
/// (0..99).for_each(|_| timing.record(Duration::from_micros(50)));
/// timing.record(Duration::from_millis(900));
/// assert_eq!(timing.calls(), 100);
/// assert!(timing.quantile(0.5) < Duration::from_micros(128));
/// assert_eq!(timing.slow(), 1, "slower than ten times the median");
/// ```
#[derive(Debug)]
pub struct Timing {
    // Bucket `i` counts calls of less than 2^i microseconds that no bucket before counts.
    buckets: [AtomicU64; 40],
    longest_ns: AtomicU64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; 40], longest_ns: AtomicU64::new(0) }
    }
}

impl Timing {
    /// Counts a call.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (64 - micros.leading_zeros() as usize).min(self.buckets.len() - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.longest_ns.fetch_max(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn calls(&self) -> u64 {
        self.counts().sum()
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed))
    }

    /// A time that this fraction of the calls stayed below: the upper end of a bucket.
    pub fn quantile(&self, fraction: f64) -> Duration {
        let wanted = fraction * self.calls() as f64;
        let mut seen = 0.0;
        for (bucket, count) in self.counts().enumerate() {
            seen += count as f64;
            if count > 0 && seen >= wanted {
                return Duration::from_micros(1 << bucket);
            }
        }
        Duration::ZERO
    }

    /// How many took more than about ten times the median.
    pub fn slow(&self) -> u64 {
        let budget = self.quantile(0.5).as_micros() * 10;
        self.counts()
            .enumerate()
            .filter(|(bucket, _)| *bucket > 0 && 1_u128 << (bucket - 1) >= budget)
            .map(|(_, n)| n)
            .sum()
    }

    fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))
    }
}
