//! A histogram of times with buckets of a fixed relative width, so that
//! counts of any nodes and any spans of time can be added up.
//!
//! Each power of two of microseconds is divided into eight equal buckets. A
//! bucket is at most an eighth of its lower end wide and stands for its
//! middle, so a percentile is off by at most 1/16, 6.25 %.

use std::collections::BTreeMap;
use std::time::Duration;

/// Buckets of each power of two, as a power of two.
const FINENESS: u32 = 3;

/// Those of one power of two.
const PER_OCTAVE: u64 = 1 << FINENESS;

/// The number of the bucket that `time` falls into.
pub fn bucket(time: Duration) -> u16 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    if micros < PER_OCTAVE {
        return u16::try_from(micros).unwrap_or(u16::MAX);
    }
    let octave = u64::from(micros.ilog2() - FINENESS);
    // The first digit is in the octave already; the next three place it there.
    let within = (micros >> octave) - PER_OCTAVE;
    u16::try_from((octave + 1) * PER_OCTAVE + within).unwrap_or(u16::MAX)
}

/// The time in the middle of a bucket.
fn middle(bucket: u16) -> Duration {
    let bucket = u64::from(bucket);
    let Some(octave) = (bucket / PER_OCTAVE).checked_sub(1) else {
        return Duration::from_micros(bucket);
    };
    // The highest octave of 64 bits; no bucket lies above.
    let octave = octave.min(u64::from(u64::BITS - FINENESS) - 1);
    let lower = (PER_OCTAVE + bucket % PER_OCTAVE) << octave;
    Duration::from_micros(lower + ((1 << octave) >> 1))
}

/// How many times fell into each bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram(BTreeMap<u16, i64>);

impl Histogram {
    /// Adds `count` times of a bucket.
    pub fn add(&mut self, bucket: u16, count: i64) {
        *self.0.entry(bucket).or_default() += count;
    }

    /// The time that `percent` of all times do not exceed (nearest rank), but
    /// for the width of a bucket. None if there are none.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let total: i64 = self.0.values().sum();
        // In whole hundredths, so that nothing is rounded.
        let wanted = i128::from(total) * i128::from(percent);
        let mut seen = 0_i128;
        let reached = self.0.iter().find(|(_, count)| {
            seen += i128::from(**count) * 100;
            seen >= wanted
        });
        reached.map(|(bucket, _)| middle(*bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, proptest};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_bucket_stands_for_every_time_in_it_within_a_sixteenth(micros in any::<u64>()) {
            let seen = middle(bucket(Duration::from_micros(micros))).as_micros();
            assert!(seen.abs_diff(micros.into()) * 16 <= u128::from(micros), "{micros}: {seen}");
        }
    }

    #[test]
    fn later_times_have_later_buckets_without_a_gap() {
        let numbers: Vec<_> =
            (0..100_000).map(|micros| bucket(Duration::from_micros(micros))).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1));
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        for seconds in 1..=100 {
            histogram.add(bucket(Duration::from_secs(seconds)), 1);
        }
        for percent in [50_u8, 95, 99, 100] {
            let seen = histogram.percentile(percent).unwrap().as_secs_f64();
            let right = f64::from(percent);
            assert!((seen - right).abs() <= right / 16.0, "{percent}: {seen}");
        }
    }
}
