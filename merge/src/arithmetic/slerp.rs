//! Spherical interpolation: Shoemake, *Animating rotation with quaternion curves*, SIGGRAPH 1985.
//!
//! A tensor is one long vector. With the angle θ between those of two models, the merged one is
//! `sin((1 − t)θ) / sin θ · base + sin(tθ) / sin θ · expert`: at `t = 0` the base, at 1 the expert. Vectors that are almost
//! parallel or opposite, `|cos θ| > 0.9995`, are interpolated linearly, as mergekit does.

/// Beyond this cosine an arc is a line.
const PARALLEL: f64 = 0.9995;
/// Vectors shorter than this are not brought to length one.
const NO_LENGTH: f64 = 1e-8;

/// The angle between two vectors, gathered piece by piece.
#[derive(Clone, Copy, Debug, Default)]
pub struct Angle {
    base: f64,
    expert: f64,
    product: f64,
}

impl Angle {
    /// Counts a piece of both.
    pub fn add(&mut self, base: &[f32], expert: &[f32]) {
        for (&base, &expert) in base.iter().zip(expert) {
            let (base, expert) = (f64::from(base), f64::from(expert));
            self.base += base * base;
            self.expert += expert * expert;
            self.product += base * expert;
        }
    }

    /// The cosine of the angle.
    pub fn cosine(self) -> f64 {
        let length = |squares: f64| Some(squares.sqrt()).filter(|length| *length > NO_LENGTH).unwrap_or(1.0);
        (self.product / length(self.base) / length(self.expert)).clamp(-1.0, 1.0)
    }

    /// What base and expert are multiplied with.
    ///
    /// ```
    /// use logitfuse_merge::arithmetic::slerp::Angle;
    ///
    /// let mut angle = Angle::default();
    /// angle.add(&[1.0, 0.0], &[0.0, 1.0]);
    /// let [base, expert] = angle.weights(0.5);
    /// assert!((base - 0.5_f64.sqrt()).abs() < 1e-15 && base == expert);
    /// ```
    pub fn weights(self, t: f64) -> [f64; 2] {
        let cosine = self.cosine();
        if cosine.abs() > PARALLEL {
            return [1.0 - t, t];
        }
        // Not the platform's sine, which may differ in the last bit from one machine to the next.
        let theta = libm::acos(cosine);
        [libm::sin((1.0 - t) * theta) / libm::sin(theta), libm::sin(t * theta) / libm::sin(theta)]
    }
}
