//! Order statistics of a sorted sample, by linear interpolation (type 7, `NumPy`'s default).

/// Values that are finite, in order.
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    /// The value below which the share `q` lies; none of nothing.
    pub(crate) fn at(&self, q: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        let place = q.clamp(0.0, 1.0) * last as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
        let below = place.floor() as usize;
        let (low, high) = (self.0[below], self.0[(below + 1).min(last)]);
        Some(low + (high - low) * (place - below as f64))
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_numpy() {
        // numpy.quantile([1, 2, 4, 8], [0, .25, .5, .9, 1])
        let sorted = Sorted::new([8.0, 1.0, f64::NAN, 4.0, 2.0]);
        let found: Vec<f64> = [0.0, 0.25, 0.5, 0.9, 1.0].iter().map(|&q| sorted.at(q).unwrap()).collect();
        assert_eq!(found, [1.0, 1.75, 3.0, 6.800_000_000_000_001, 8.0]);
        assert_eq!(Sorted::new([]).at(0.5), None);
    }
}
