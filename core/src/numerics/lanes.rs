//! What kernels are made of: sums and maxima over sixteen lanes in a fixed order, and exponentials.
//!
//! For crates that write kernels over rows of their own and want the same bits on every instruction set. What runs for
//! every entry is `#[inline(always)]`: only code that ends up inside a function compiled for the wide registers uses them.
//! Called from plain code it gives the same bits, slower.
//!
//! ```
//! use logitfuse_core::numerics::lanes::{exp, sums};
//!
//! // The sum of exp(x) and of x · exp(x) over a row, in one pass.
//! let [mass, first] = sums([&[0.0, 0.0, f32::NEG_INFINITY]], |[x]| {
//!     let p = exp(x);
//!     [p, if p > 0.0 { p * x } else { 0.0 }]
//! });
//! assert_eq!((mass, first), (2.0, 0.0));
//! ```

use std::array;

/// Entries that are worked on together: one AVX-512 register, two of AVX2, four of SSE2 or NEON.
pub const LANES: usize = 16;
/// Entries between two transfers from f32 lanes to f64 lanes: 32 additions a lane keep the f32 error below 2e-6.
pub const BLOCK: usize = 32 * LANES;

/// `S` sums over the ids of `R` rows of equal length. `term` maps the entries of one id to what each sum gains; it must
/// give zeros where every row is masked, because the last block of a row is filled up that way.
///
/// Every block is worked on in two plain loops, terms first and additions after, because compilers vectorise those two
/// reliably and their union not: it tempts them to scatter lanes.
#[inline(always)]
pub fn sums<const R: usize, const S: usize>(rows: [&[f32]; R], term: impl Fn([f32; R]) -> [f32; S]) -> [f64; S] {
    let mut totals = [[0.0_f64; LANES]; S];
    let mut terms = [[0.0_f32; BLOCK]; S];
    let blocks = Chunks::<R, BLOCK>::new(rows);
    for number in 0..blocks.count() {
        let block = blocks.get(number);
        for id in 0..BLOCK {
            let of_id = term(array::from_fn(|row| block[row][id]));
            for sum in 0..S {
                terms[sum][id] = of_id[sum];
            }
        }
        for (total, terms) in totals.iter_mut().zip(&terms) {
            add_lanes(total, terms);
        }
    }
    totals.map(|lanes| lanes.iter().sum())
}

#[inline(always)]
fn add_lanes(total: &mut [f64; LANES], terms: &[f32; BLOCK]) {
    let mut block = [0.0_f32; LANES];
    for chunk in terms.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            block[lane] += chunk[lane];
        }
    }
    for lane in 0..LANES {
        total[lane] += f64::from(block[lane]);
    }
}

/// The largest `score` of any id; `-inf` if there is none above. NaN never wins.
#[inline(always)]
pub fn max<const R: usize>(rows: [&[f32]; R], score: impl Fn([f32; R]) -> f32) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let chunks = Chunks::<R, LANES>::new(rows);
    for number in 0..chunks.count() {
        let chunk = chunks.get(number);
        for lane in 0..LANES {
            best[lane] = larger(score(array::from_fn(|row| chunk[row][lane])), best[lane]);
        }
    }
    best.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// The first id whose `score` is `wanted`, and 0 if there is none.
#[inline(always)]
pub fn first<const R: usize>(rows: [&[f32]; R], score: impl Fn([f32; R]) -> f32, wanted: f32) -> usize {
    /// Entries that are compared before the first look at the outcome, which is what lets them be compared together.
    const STRIDE: usize = 8 * LANES;
    let strides = Chunks::<R, STRIDE>::new(rows);
    for number in 0..strides.count() {
        let stride = strides.get(number);
        let matches: [bool; STRIDE] = array::from_fn(|id| score(array::from_fn(|row| stride[row][id])) == wanted);
        if matches.iter().fold(false, |any, &hit| any | hit) {
            return number * STRIDE + matches.iter().position(|&hit| hit).unwrap_or(0);
        }
    }
    0
}

/// The larger of two numbers, `b` if either is NaN: the semantics of x86's `max`, and so one instruction.
#[inline(always)]
pub fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The nearest f32; beyond its range, infinity.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "entries are f32, and so are numbers that meet them")]
pub fn round_to_f32(x: f64) -> f32 {
    x as f32
}

/// The nearest f32; beyond its range, the largest or smallest finite one. NaN stays NaN.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "what leaves the range stops at its ends")]
pub fn clamp_to_f32(x: f64) -> f32 {
    (x as f32).clamp(f32::MIN, f32::MAX)
}

/// Rows of equal length cut into chunks of `N`, the last one filled up with `-inf`. One loop over all of them calls its
/// closure at one place, which is what makes compilers inline it.
#[derive(Debug)]
pub struct Chunks<'a, const R: usize, const N: usize> {
    whole: [&'a [[f32; N]]; R],
    last: [[f32; N]; R],
    has_last: bool,
}

impl<'a, const R: usize, const N: usize> Chunks<'a, R, N> {
    /// Cuts rows.
    ///
    /// # Panics
    /// If the rows are of different lengths.
    #[inline(always)]
    pub fn new(rows: [&'a [f32]; R]) -> Self {
        let len = common_len(&rows);
        let mut last = [[f32::NEG_INFINITY; N]; R];
        for (last, row) in last.iter_mut().zip(rows) {
            let rest = row.as_chunks::<N>().1;
            last[..rest.len()].copy_from_slice(rest);
        }
        Self { whole: rows.map(|row| row.as_chunks().0), last, has_last: !len.is_multiple_of(N) }
    }

    /// How many chunks there are, the filled-up one included.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.whole[0].len() + usize::from(self.has_last)
    }

    /// The chunk with this number of every row.
    #[inline(always)]
    pub fn get(&self, number: usize) -> [&[f32; N]; R] {
        array::from_fn(|row| self.whole[row].get(number).unwrap_or(&self.last[row]))
    }
}

#[inline(always)]
fn common_len<const R: usize>(rows: &[&[f32]; R]) -> usize {
    let len = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == len), "rows of different lengths");
    len
}

/// An f64 constant as two f32 whose sum is the constant to about 48 bits.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    high: f32,
    low: f32,
}

impl Split {
    /// Splits a constant. One beyond the range of f32 has no second part.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the rounding is the purpose: the error goes to `low`")]
    pub fn new(x: f64) -> Self {
        let high = x as f32;
        let low = if high.is_finite() { (x - f64::from(high)) as f32 } else { 0.0 };
        Self { high, low }
    }

    /// `x - self`, accurate where the two are close, which is where the probability is.
    #[inline(always)]
    pub fn subtract_from(self, x: f32) -> f32 {
        (x - self.high) - self.low
    }
}

/// `e^x` within 2 units in the last place for `x` in [-87, 88]; 0 below, `e^88` above and for NaN. Branch-free.
///
/// Cody and Waite's reduction `x = n ln 2 + r`, a polynomial in `r`, and `n` added to the exponent field.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Below, results would leave the normal range, where the exponent trick fails and some processors slow down.
    const SMALLEST: f32 = -87.0;
    const LARGEST: f32 = 88.0;
    // 1.5 * 2^23: adding it rounds to an integer and leaves that integer in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    // ln 2 rounded to nine bits, so that n * LN_2_HIGH is exact for |n| < 2^15; and the rest.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Minimises the largest relative error on |r| <= ln(2)/2, coefficients rounded one after the other: 3.2e-9.
    const C: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_29, 0.008_368_704, 0.001_381_893_9];

    let clamped = larger(SMALLEST, if x < LARGEST { x } else { LARGEST });
    let shifted = clamped * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (clamped - n * LN_2_HIGH) - n * LN_2_LOW;
    let tail = (((C[4] * r + C[3]) * r + C[2]) * r + C[1]) * r + C[0];
    let mantissa = 1.0 + (r + r * r * tail);
    let scaled = f32::from_bits(mantissa.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x < SMALLEST { 0.0 } else { scaled }
}

/// `e^x` for `x` up to 88, with two thirds of the operations of [`exp`]: the relative error is 3e-7 and 8e-8 for each unit
/// of `x`, so that sums over a distribution are as good as with it. Below -87 a number below 1e-37, not always 0.
#[inline(always)]
pub fn fast_exp(x: f32) -> f32 {
    // 2^-126, the least normal number.
    const SMALLEST: f32 = -126.0;
    const ROUNDER: f32 = 12_582_912.0;
    // Minimises the largest relative error of 2^r on |r| <= 1/2: 1.1e-7.
    const C: [f32; 5] =
        [std::f32::consts::LN_2 - 1.5 * f32::EPSILON, 0.240_222_42, 0.055_507_336, 0.009_671_513, 0.001_326_472_7];

    let power = larger(SMALLEST, x * std::f32::consts::LOG2_E);
    let shifted = power + ROUNDER;
    let r = power - (shifted - ROUNDER);
    let mantissa = ((((C[4] * r + C[3]) * r + C[2]) * r + C[1]) * r + C[0]) * r + 1.0;
    f32::from_bits(mantissa.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `e^x` to about 1e-14 for `x` in [-700, 700]; 0 below. The same reduction as [`exp`], with room for a longer polynomial.
#[inline(always)]
pub fn exp_f64(x: f64) -> f64 {
    const SMALLEST: f64 = -700.0;
    const LARGEST: f64 = 700.0;
    // 1.5 * 2^52: adding it rounds to an integer and leaves that integer in the low bits.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    // ln 2 rounded to 32 bits, so that n * LN_2_HIGH is exact; and the rest.
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // Interpolates at Chebyshev's points of |r| <= ln(2)/2, which leaves 1.2e-15.
    const C: [f64; 9] = [
        0.5,
        0.166_666_666_666_483_03,
        0.041_666_666_666_651_364,
        0.008_333_333_353_717_168,
        0.001_388_888_890_587_135_5,
        0.000_198_412_087_569_678_7,
        2.480_153_640_904_371_8e-5,
        2.762_510_201_896_032_4e-6,
        2.761_379_556_582_631e-7,
    ];
    let below = if x < LARGEST { x } else { LARGEST };
    let clamped = if below > SMALLEST { below } else { SMALLEST };
    let shifted = clamped * std::f64::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (clamped - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut tail = C[8];
    for c in C[..8].iter().rev() {
        tail = tail * r + c;
    }
    let mantissa = 1.0 + (r + r * r * tail);
    let scaled = f64::from_bits(mantissa.to_bits().wrapping_add(shifted.to_bits() << 52));
    if x < SMALLEST { 0.0 } else { scaled }
}
