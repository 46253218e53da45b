//! Validation of every row that a plugin writes. It is most of what a plugin costs over a built-in strategy, so it is one
//! pass of integer comparisons; `check_row` says what is wrong with a row that fails it.

use logitfuse_core::{Error, ErrorKind, Result, numerics::check_row};
use pulp::{Arch, NullaryFnOnce};

/// A signalling NaN, which no computation gives: what stands in an entry until the plugin writes it. Without it an entry that
/// a plugin leaves out would hold that of the step before.
const UNWRITTEN: u32 = 0x7fa5_5aa5;

/// Makes a row one of which nothing is written.
pub(crate) fn prepare(row: &mut [f32]) {
    row.fill(f32::from_bits(UNWRITTEN));
}

/// Finite values or `-inf`, one finite value at least, and nothing left as [`prepare`] made it.
pub(crate) fn check(row: &[f32]) -> Result<()> {
    if Arch::new().dispatch(Validate(row)) {
        return Ok(());
    }
    match row.iter().position(|x| x.to_bits() == UNWRITTEN) {
        None => check_row(row),
        Some(entry) => {
            let left = row.iter().filter(|x| x.to_bits() == UNWRITTEN).count();
            let others = if left > 1 { format!(", nor were {} others", left - 1) } else { String::new() };
            let which = format!("entry {entry} of {} was never written{others}", row.len());
            Err(Error::new(ErrorKind::Numeric, which).with_help(
                "a call that returns LF_OK has written every entry of the row; this is a fault of the plugin",
            ))
        }
    }
}

struct Validate<'a>(&'a [f32]);

impl NullaryFnOnce for Validate<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        const INFINITY: i32 = f32::INFINITY.to_bits().cast_signed();
        const MASKED: u32 = f32::NEG_INFINITY.to_bits();
        const LANES: usize = 64;
        // As signed integers, +inf and the NaN of its sign are above all others; as unsigned ones, the NaN of the other sign
        // are, and -inf is above all numbers. Three comparisons an entry, and no look at any of them.
        let (mut signed, mut most, mut least) = ([i32::MIN; LANES], [0_u32; LANES], [u32::MAX; LANES]);
        let mut look = |block: &[f32; LANES]| {
            for lane in 0..LANES {
                let bits = block[lane].to_bits();
                signed[lane] = signed[lane].max(bits.cast_signed());
                most[lane] = most[lane].max(bits);
                least[lane] = least[lane].min(bits);
            }
        };
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        for block in blocks {
            look(block);
        }
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        look(&last);
        signed.iter().all(|&x| x < INFINITY) && most.iter().all(|&x| x <= MASKED) && least.iter().any(|&x| x < MASKED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_check_of_core() {
        for width in [1, 2, 63, 64, 65, 1000] {
            for odd in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX, f32::MIN, 1e-45] {
                for fill in [0.5, f32::NEG_INFINITY] {
                    for at in [0, width / 2, width - 1] {
                        let mut row = vec![fill; width];
                        row[at] = odd;
                        assert_eq!(
                            check(&row).is_ok(),
                            check_row(&row).is_ok(),
                            "{odd} among {fill} at {at} of {width}"
                        );
                    }
                }
            }
        }
        assert!(check(&[]).is_err());
    }

    #[test]
    fn what_is_left_out_is_told_from_what_was_computed() {
        let mut row = [0.0; 70];
        prepare(&mut row);
        assert_eq!(check(&row).unwrap_err().to_string(), "entry 0 of 70 was never written, nor were 69 others");
        row[..69].fill(1.0);
        assert_eq!(check(&row).unwrap_err().to_string(), "entry 69 of 70 was never written");
        row[40..].fill(f32::from_bits(UNWRITTEN));
        assert_eq!(check(&row).unwrap_err().to_string(), "entry 40 of 70 was never written, nor were 29 others");
        // Arithmetic on it gives a NaN, but not this one.
        row[40..].iter_mut().for_each(|x| *x += 1.0);
        assert_eq!(check(&row).unwrap_err().to_string(), "entry 40 is NaN");
    }
}
