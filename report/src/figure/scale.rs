//! From values to places and back to readable ticks.

use crate::number;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Linear,
    /// Powers of ten; for values above 0.
    Log,
}

/// Values from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Domain {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) kind: Kind,
}

impl Domain {
    /// Holds all finite values with a little air around them; a unit interval where there are none.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|v| v.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let spread = high - low;
        // One value alone, however large, still gets an axis with two ends.
        let air = if spread > 0.0 { spread * 0.04 } else { (low.abs() * 0.1).max(0.5) };
        Self { low: low - air, high: high + air, kind: Kind::Linear }
    }

    /// As [`around`](Self::around), cut to what a quantity can be at most.
    pub(crate) fn clamped(self, low: f64, high: f64) -> Self {
        Self { low: self.low.max(low), high: self.high.min(high), ..self }
    }

    pub(crate) fn log(low: f64, high: f64) -> Self {
        Self { low, high: high.max(low * 10.0), kind: Kind::Log }
    }

    /// Where a value lies between 0 (low) and 1 (high); may be outside.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Log => (value / self.low).log10() / (self.high / self.low).log10(),
        }
    }

    /// Round values within the domain, about `count` of them, with their labels.
    pub(crate) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        match self.kind {
            Kind::Linear => linear_ticks(self.low, self.high, count.max(2)),
            Kind::Log => log_ticks(self.low, self.high, count.max(2)),
        }
    }
}

fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<(f64, String)> {
    let rough = (high - low) / count as f64;
    if rough <= 0.0 || !rough.is_finite() {
        return Vec::new();
    }
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough).unwrap_or(rough);
    // As many decimals as tell two neighbours apart.
    let exact = |decimals: usize| {
        let scaled = step * 10_f64.powf(decimals as f64);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    };
    let decimals = (0..12).find(|&d| exact(d)).unwrap_or(12);
    let first = (low / step).ceil();
    (0..=count * 3)
        .map(|i| (first + i as f64) * step)
        .take_while(|&value| value <= high + step * 1e-9)
        .map(|value| (value, number::fixed(value, decimals)))
        .collect()
}

fn log_ticks(low: f64, high: f64, count: usize) -> Vec<(f64, String)> {
    let (first, last) = (low.log10().ceil(), high.log10().floor());
    let every = ((last - first + 1.0) / count as f64).ceil().max(1.0);
    let mut ticks = Vec::new();
    let mut power = first;
    while power <= last && ticks.len() < 40 {
        ticks.push((10_f64.powf(power), power_label(power)));
        power += every;
    }
    ticks
}

/// 0.01, 0.1, 1, 10, 100 in full, others as powers.
fn power_label(power: f64) -> String {
    if (-2.0..=3.0).contains(&power) {
        return number::fixed(10_f64.powf(power), if power < 0.0 { if power < -1.0 { 2 } else { 1 } } else { 0 });
    }
    let digits: String = number::fixed(power, 0)
        .chars()
        .map(|c| match c {
            '−' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '0' => '⁰',
            // Superscripts from 4 on are in order.
            d => d.to_digit(10).and_then(|d| char::from_u32(0x2070 + d)).unwrap_or(d),
        })
        .collect();
    format!("10{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(domain: Domain, count: usize) -> Vec<String> {
        domain.ticks(count).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn round_ticks() {
        assert_eq!(
            labels(Domain { low: 0.0, high: 1.0, kind: Kind::Linear }, 4),
            ["0.00", "0.25", "0.50", "0.75", "1.00"]
        );
        assert_eq!(labels(Domain { low: -0.3, high: 1.1, kind: Kind::Linear }, 3), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels(Domain::log(1e-6, 10.0), 4), ["10⁻⁶", "10⁻⁴", "0.01", "1"]);
        assert_eq!(labels(Domain { low: 1.0, high: 40.0, kind: Kind::Linear }, 4), ["10", "20", "30", "40"]);
    }

    #[test]
    fn hard_values_still_make_an_axis() {
        for values in [vec![], vec![f64::NAN], vec![3.0], vec![0.0], vec![1e300, -1e300], vec![1e-300]] {
            let domain = Domain::around(values.clone());
            assert!(domain.high > domain.low, "{values:?}");
            assert!(domain.ticks(4).len() <= 13, "{values:?}");
        }
    }
}
