//! Numbers as a reader wants them: as many digits as are sure, never more.

/// A value with as many decimals as its uncertainty has two significant digits; three where nothing is known of it.
pub(crate) fn value(x: f64, interval: Option<[f64; 2]>) -> String {
    fixed(x, decimals(interval))
}

/// An interval, with as many decimals as say something.
pub(crate) fn interval(interval: [f64; 2]) -> String {
    interval_with(interval, decimals(Some(interval)))
}

/// An interval with so many decimals.
pub(crate) fn interval_with([low, high]: [f64; 2], decimals: usize) -> String {
    format!("[{}, {}]", fixed(low, decimals), fixed(high, decimals))
}

/// Decimals for a column of values: those of its middle interval, so that figures are aligned.
pub(crate) fn common_decimals(intervals: impl Iterator<Item = [f64; 2]>) -> usize {
    let mut each: Vec<usize> = intervals.map(|interval| decimals(Some(interval))).collect();
    each.sort_unstable();
    each.get(each.len() / 2).copied().unwrap_or(3)
}

/// A share as a whole percentage.
pub(crate) fn percent(x: f64) -> String {
    format!("{} %", fixed(x * 100.0, 0))
}

/// An interval of shares as whole percentages.
pub(crate) fn percent_interval([low, high]: [f64; 2]) -> String {
    format!("[{}, {}]", fixed(low * 100.0, 0), fixed(high * 100.0, 0))
}

/// Three significant digits, for what ranges over orders of magnitude: seconds, nats.
pub(crate) fn significant(x: f64) -> String {
    if x == 0.0 {
        return "0".to_owned();
    }
    if !x.is_finite() {
        return fixed(x, 0);
    }
    let magnitude = x.abs().log10().floor();
    if !(-4.0..=5.0).contains(&magnitude) {
        return format!("{x:.1e}").replace('-', "−");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 6")]
    let decimals = (2.0 - magnitude).clamp(0.0, 6.0) as usize;
    fixed(x, decimals)
}

/// Bytes in the unit that leaves one to three digits before the point.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut x, mut unit) = (n as f64, 0);
    while x >= 1000.0 && unit + 1 < units.len() {
        x /= 1000.0;
        unit += 1;
    }
    format!("{} {}", if unit == 0 { n.to_string() } else { significant(x) }, units[unit])
}

/// A fixed number of decimals, with a true minus sign and no negative zero.
pub(crate) fn fixed(x: f64, decimals: usize) -> String {
    if x.is_nan() {
        return "–".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "∞" } else { "−∞" }.to_owned();
    }
    let text = format!("{:.decimals$}", x.abs());
    let zero = text.bytes().all(|b| b == b'0' || b == b'.');
    if x < 0.0 && !zero { format!("−{text}") } else { text }
}

fn decimals(interval: Option<[f64; 2]>) -> usize {
    let Some([low, high]) = interval else { return 3 };
    let half = (high - low).abs() / 2.0;
    if half <= 0.0 || !half.is_finite() {
        return 3;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 4")]
    let decimals = (1.0 - half.log10().floor()).clamp(0.0, 4.0) as usize;
    decimals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_follow_the_uncertainty() {
        assert_eq!(value(0.966_667, Some([0.886, 0.991])), "0.967");
        assert_eq!(value(23.4567, Some([22.0, 25.0])), "23.5");
        assert_eq!(value(1234.5, Some([1100.0, 1300.0])), "1234");
        assert_eq!(value(0.5, None), "0.500");
        assert_eq!(interval([0.25, 0.75]), "[0.25, 0.75]");
        assert_eq!(interval([1.0, 1.0]), "[1.000, 1.000]");
        assert_eq!(common_decimals([[0.1, 0.3], [0.0, 0.01], [0.2, 0.5]].into_iter()), 2);
    }

    #[test]
    fn signs_are_signs() {
        assert_eq!(percent(-0.004), "0 %");
        assert_eq!(percent(-0.25), "−25 %");
        assert_eq!(percent_interval([-0.1, 1.0]), "[−10, 100]");
        assert_eq!(fixed(f64::NEG_INFINITY, 2), "−∞");
        assert_eq!(fixed(f64::NAN, 2), "–");
    }

    #[test]
    fn magnitudes() {
        assert_eq!(significant(0.012_345), "0.0123");
        assert_eq!(significant(1.2e-7), "1.2e−7");
        assert_eq!(significant(12_345.6), "12346");
        assert_eq!((bytes(999), bytes(10_574_513)), ("999 B".to_owned(), "10.6 MB".to_owned()));
    }
}
