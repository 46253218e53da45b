use pulp::NullaryFnOnce;

use super::{
    dispatch::dispatch,
    lanes::{larger, max, sums},
};
use crate::{Error, ErrorKind, Result};

/// Checks the contract on rows: finite values or `-inf`, one finite value at least.
///
/// One vectorised pass, cheap enough to run on everything that enters or leaves a strategy.
///
/// # Errors
/// [`ErrorKind::Numeric`], naming the first id that is NaN or `+inf`, or saying that nothing is finite.
///
/// ```
/// use logitfuse_core::numerics::check_row;
///
/// assert!(check_row(&[0.0, f32::NEG_INFINITY]).is_ok());
/// assert_eq!(check_row(&[0.0, f32::NAN]).unwrap_err().to_string(), "entry 1 is NaN");
/// assert!(check_row(&[f32::NEG_INFINITY; 2]).unwrap_err().to_string().contains("all 2 entries are masked"));
/// ```
pub fn check_row(row: &[f32]) -> Result<()> {
    let (offending, possible) = dispatch(Scan(row));
    if offending {
        let (id, x) = row.iter().enumerate().find(|(_, x)| offends(**x)).map_or((0, f32::NAN), |(id, x)| (id, *x));
        let what = if x.is_nan() { "NaN" } else { "+inf" };
        return Err(Error::new(ErrorKind::Numeric, format!("entry {id} is {what}"))
            .with_help("a row holds finite logits, or -inf for a masked id; look at what computed it"));
    }
    if !possible {
        return Err(Error::new(ErrorKind::Numeric, format!("all {} entries are masked", row.len()))
            .with_help("one id at least must stay possible; look at masks and constraints"));
    }
    Ok(())
}

fn offends(x: f32) -> bool {
    x.is_nan() || x == f32::INFINITY
}

/// Whether something offends, and whether something is possible.
struct Scan<'a>(&'a [f32]);

impl NullaryFnOnce for Scan<'_> {
    type Output = (bool, bool);

    #[inline(always)]
    fn call(self) -> (bool, bool) {
        // 0 * x is 0 for what is finite and NaN for the rest; the maximum first makes -inf finite and lets NaN through.
        let [zero] = sums([self.0], |[x]| [larger(f32::MIN, x) * 0.0]);
        (zero.is_nan(), max([self.0], |[x]| x) > f32::NEG_INFINITY)
    }
}
