//! Medians, spreads and percentiles.

/// Percentiles of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Latency {
    /// Of nanoseconds in any order; none of none.
    pub(crate) fn of(nanoseconds: &mut [u64]) -> Option<Self> {
        nanoseconds.sort_unstable();
        let at = |share: f64| {
            let index = (nanoseconds.len() as f64 * share) as usize;
            let value = nanoseconds.get(index).or_else(|| nanoseconds.last());
            value.map(|value| *value as f64 / 1e3)
        };
        Some(Self {
            p50_us: at(0.5)?,
            p99_us: at(0.99)?,
            p999_us: at(0.999)?,
        })
    }
}

/// The lowest, middle and highest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) middle: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// None of no values; values that are no numbers are left out.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let middle = if values.len().is_multiple_of(2) {
            f64::midpoint(upper, *values.get(values.len() / 2 - 1)?)
        } else {
            upper
        };
        Some(Self {
            low: *values.first()?,
            middle,
            high: *values.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Latency, Spread};

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut values: Vec<u64> = (0..1000).rev().map(|value| value * 1000).collect();
        let latency = Latency::of(&mut values).unwrap();
        assert_eq!(
            (latency.p50_us, latency.p99_us, latency.p999_us),
            (500.0, 990.0, 999.0)
        );
        assert_eq!(Latency::of(&mut [7000]).unwrap().p999_us, 7.0);
        assert_eq!(Latency::of(&mut []), None);
    }

    #[test]
    fn a_spread_has_the_median_between_its_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.low, spread.middle, spread.high), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([1.0, 4.0]).unwrap().middle, 2.5);
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
