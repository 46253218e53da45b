/// The natural logarithm of a positive f32, with the same bits on every machine, which the platform's own does not promise;
/// about 1e-7 of relative error. 0 counts as the smallest normal number, so that `0 · ln(0)` is 0.
///
/// `x = 2^e · m` with `m` in [√½, √2), and `ln m = 2 artanh((m − 1)/(m + 1))` as a series.
///
/// ```
/// use logitfuse_core::numerics::ln;
///
/// assert_eq!(ln(1.0), 0.0);
/// assert!((ln(10.0) - 10_f32.ln()).abs() < 1e-6);
/// assert_eq!(0.0 * ln(0.0), 0.0);
/// ```
#[inline(always)]
#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "fields of bits, both ways")]
pub fn ln(x: f32) -> f32 {
    const SQRT_HALF: i32 = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;
    let bits = x.max(f32::MIN_POSITIVE).to_bits() as i32;
    let exponent = (bits - SQRT_HALF) >> 23;
    let m = f32::from_bits((bits - (exponent << 23)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn logarithms_are_accurate(x in prop_oneof![1e-30_f32..1e30, 0.9_f32..1.1]) {
            let exact = f64::from(x).ln();
            prop_assert!((f64::from(ln(x)) - exact).abs() <= 3e-7 * exact.abs().max(1e-3), "ln({x}) = {} {exact}", ln(x));
        }
    }
}
