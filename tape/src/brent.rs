//! The minimum of a function of one variable.

/// Where a function is smallest and what it is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Minimum {
    pub(super) x: f64,
    pub(super) value: f64,
}

impl Minimum {
    /// Points that were not tried yet stand where others do.
    fn is_at(self, other: Self) -> bool {
        self.x.total_cmp(&other.x).is_eq()
    }
}

/// Finds a minimum between `low` and `high` to within `tolerance`, near `start`, where the function is known.
///
/// Parabolas through the three best points where these behave, golden sections where they do not: R. P. Brent, Algorithms
/// for Minimization without Derivatives (1973), chapter 5. The function may be infinite; an error ends the search.
pub(super) fn minimise<E>(
    low: f64,
    high: f64,
    start: Minimum,
    tolerance: f64,
    mut f: impl FnMut(f64) -> Result<f64, E>,
) -> Result<Minimum, E> {
    /// The smaller part of a golden section.
    const GOLDEN: f64 = 0.381_966_011_250_105_1;
    /// A parabola gains digits at every step, a golden section a fifth of one.
    const MOST_STEPS: usize = 100;
    let (mut a, mut b) = (low, high);
    let (mut best, mut second, mut third) = (start, start, start);
    // The last two steps.
    let (mut step, mut before) = (0.0_f64, 0.0_f64);
    for _ in 0..MOST_STEPS {
        let middle = 0.5 * (a + b);
        if (best.x - middle).abs() + 0.5 * (b - a) <= 2.0 * tolerance {
            break;
        }
        let parabola = parabola(best, second, third).filter(|&to| {
            // Within the bracket, and less than half of the step before the last: or it may go to and fro for ever.
            (to - best.x).abs() < 0.5 * before.abs() && to > a && to < b
        });
        before = step;
        step = match parabola {
            Some(to) if to - a < 2.0 * tolerance || b - to < 2.0 * tolerance => tolerance.copysign(middle - best.x),
            Some(to) => to - best.x,
            None => {
                before = if best.x < middle { b - best.x } else { a - best.x };
                GOLDEN * before
            }
        };
        // Points closer together than the tolerance say nothing.
        let x = best.x + if step.abs() >= tolerance { step } else { tolerance.copysign(step) };
        let value = f(x)?;
        let point = Minimum { x, value };
        if value <= best.value {
            let left_behind = if x >= best.x { &mut a } else { &mut b };
            *left_behind = best.x;
            (third, second, best) = (second, best, point);
        } else {
            let wall = if x < best.x { &mut a } else { &mut b };
            *wall = x;
            if value <= second.value || second.is_at(best) {
                (third, second) = (second, point);
            } else if value <= third.value || third.is_at(best) || third.is_at(second) {
                third = point;
            }
        }
    }
    Ok(best)
}

/// Where the parabola through three points is smallest, if it is one that opens upwards.
fn parabola(a: Minimum, b: Minimum, c: Minimum) -> Option<f64> {
    let (ab, ac) = (a.x - b.x, a.x - c.x);
    let (fab, fac) = (a.value - b.value, a.value - c.value);
    let curvature = ab * fac - ac * fab;
    let x = a.x - 0.5 * (ab * ab * fac - ac * ac * fab) / curvature;
    (curvature != 0.0 && x.is_finite()).then_some(x)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn of(low: f64, high: f64, f: impl Fn(f64) -> f64) -> (Minimum, usize) {
        let mut calls = 0;
        let start = 0.5 * (low + high);
        let minimum = minimise(low, high, Minimum { x: start, value: f(start) }, 1e-6, |x| {
            calls += 1;
            Ok::<f64, Infallible>(f(x))
        });
        (minimum.unwrap(), calls)
    }

    #[test]
    fn a_smooth_minimum_takes_few_calls() {
        let (minimum, calls) = of(0.0, 2.0, |x| (x - 0.7).cosh());
        assert!((minimum.x - 0.7).abs() < 1e-5, "{minimum:?}");
        assert!(calls <= 15, "{calls} calls");
    }

    #[test]
    fn corners_ends_and_walls_are_found() {
        assert!((of(0.0, 2.0, |x| (x - 0.3).abs()).0.x - 0.3).abs() < 1e-5);
        assert!(of(0.0, 2.0, |x| x).0.x < 1e-5);
        assert!(of(0.0, 2.0, |x| -x).0.x > 2.0 - 1e-5);
        let walled = of(0.0, 2.0, |x| if x < 1.2 { x * x - 2.0 * x } else { f64::INFINITY });
        assert!((walled.0.x - 1.0).abs() < 1e-4, "{walled:?}");
    }

    proptest! {
        #[test]
        fn convex_functions_are_minimised(at in 0.0..1.0_f64, skew in 0.1..10.0_f64) {
            // exp(skew d) - skew d is smallest at d = 0.
            let f = |x: f64| (skew * (x - at)).exp() - skew * (x - at);
            let (minimum, calls) = of(-0.5, 1.5, f);
            prop_assert!((minimum.x - at).abs() < 1e-3, "{minimum:?}");
            prop_assert!(calls < 60);
        }
    }
}
