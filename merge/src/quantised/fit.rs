//! Numbers as integers of a given scheme, with what is lost.

use std::ops::Range;

use logitfuse_core::Result;

use super::{
    layout::{Layout, Zero},
    packing::Packer,
    reader::{GridReader, exact},
};
use crate::float::Float;

/// Elements that are merged at once.
pub(crate) const PIECE: usize = 1 << 16;
/// Grids that a channel has to choose from.
const MOST: usize = 4;

/// What rounding to integers changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Loss {
    pub(crate) squared_error: f64,
    pub(crate) squared_values: f64,
    pub(crate) largest: f64,
}

impl Loss {
    /// The root of the mean squared error, relative to that of the numbers.
    pub(crate) fn relative(self) -> f64 {
        if self.squared_error == 0.0 { 0.0 } else { (self.squared_error / self.squared_values).sqrt() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.squared_error += other.squared_error;
        self.squared_values += other.squared_values;
        self.largest = self.largest.max(other.largest);
    }
}

/// One step of a grid, and the code of zero.
#[derive(Clone, Copy, Debug, Default)]
struct Grid {
    scale: f32,
    zero: f32,
}

/// Turns the merged numbers of one tensor into integers of the first parent's scheme.
///
/// Where a scale is to be chosen, the first parent's own grid takes part, so that numbers which did not change get the
/// codes that they had.
pub(crate) struct Refit {
    layout: Layout,
    /// The first parent's scales and zero points.
    own: GridReader,
    /// Zero points stay: all parents have the same.
    fixed_zeros: bool,
    packer: Packer,
    zero_packer: Option<Packer>,
    codes: Vec<u8>,
    scales: Vec<u8>,
    zeros: Vec<u8>,
    loss: Loss,
}

/// Gives the merged numbers from an element on.
pub(crate) type Fill<'a> = dyn FnMut(usize, &mut [f32]) -> Result<()> + 'a;

/// What a tensor became: its scales and zero points. Codes are handed over as they come.
pub(crate) struct Refitted {
    pub(crate) scales: Vec<u8>,
    pub(crate) zeros: Vec<u8>,
    pub(crate) loss: Loss,
}

impl Refit {
    pub(crate) fn new(layout: Layout, own: GridReader, fixed_zeros: bool) -> Self {
        let zero_packer = match layout.zero {
            Zero::Codes(packing) if !fixed_zeros => Some(Packer::new(packing)),
            _ => None,
        };
        let packer = Packer::new(layout.codes);
        let (codes, scales, zeros) = (Vec::new(), Vec::new(), Vec::new());
        Self { layout, own, fixed_zeros, packer, zero_packer, codes, scales, zeros, loss: Loss::default() }
    }

    pub(crate) fn run(mut self, fill: &mut Fill<'_>, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Refitted> {
        let (n, slab) = (self.layout.elements(), self.layout.slab(PIECE).max(1));
        for start in (0..n).step_by(slab) {
            self.slab(start..(start + slab).min(n), fill)?;
            if !self.codes.is_empty() {
                put(&self.codes)?;
                self.codes.clear();
            }
        }
        self.packer.finish(&mut self.codes);
        put(&self.codes)?;
        if let Some(packer) = self.zero_packer {
            packer.finish(&mut self.zeros);
        }
        Ok(Refitted { scales: self.scales, zeros: self.zeros, loss: self.loss })
    }

    /// Elements with scales of their own: what they span, which grid fits best, and the codes.
    fn slab(&mut self, slab: Range<usize>, fill: &mut Fill<'_>) -> Result<()> {
        let layout = self.layout;
        let mut pass = Pass::new(slab.clone());
        let channels = layout.channel_range(slab.start, slab.end);
        let channel = |element: usize| layout.channel(element) - channels.start;

        let mut spans = vec![(f32::INFINITY, f32::NEG_INFINITY); channels.len()];
        pass.run(fill, |start, values| {
            for (i, &value) in values.iter().enumerate() {
                let (low, high) = &mut spans[channel(start + i)];
                (*low, *high) = (low.min(value), high.max(value));
            }
        })?;

        let (own_scales, own_zeros) = self.own.grid(channels.clone())?;
        let own = own_scales.iter().zip(own_zeros).map(|(&scale, &zero)| Grid { scale, zero });
        let grids: Vec<[Grid; MOST]> =
            own.zip(&spans).map(|(own, &(low, high))| candidates(&layout, own, low, high, self.fixed_zeros)).collect();
        let mut errors = vec![[0.0_f64; MOST]; channels.len()];
        pass.run(fill, |start, values| {
            for (i, &value) in values.iter().enumerate() {
                let channel = channel(start + i);
                for (grid, error) in grids[channel].iter().zip(&mut errors[channel]) {
                    let miss = f64::from(value) - f64::from(grid.number(grid.code(&layout, value)));
                    *error += miss * miss;
                }
            }
        })?;
        let best: Vec<Grid> = grids.iter().zip(&errors).map(|(grids, errors)| grids[first_least(errors)]).collect();

        let (packer, codes, loss) = (&mut self.packer, &mut self.codes, &mut self.loss);
        pass.run(fill, |start, values| {
            for (i, &value) in values.iter().enumerate() {
                let grid = best[channel(start + i)];
                let code = grid.code(&layout, value);
                let (number, exactly) = (f64::from(grid.number(code)), f64::from(value));
                loss.add(Loss {
                    squared_error: (exactly - number).powi(2),
                    squared_values: exactly * exactly,
                    largest: (exactly - number).abs(),
                });
                packer.push(code, codes);
            }
        })?;
        for grid in best {
            layout.scale.encode(&[grid.scale], &mut self.scales);
            match (layout.zero, &mut self.zero_packer) {
                (Zero::Codes(_), Some(packer)) => packer.push(whole(grid.zero), &mut self.zeros),
                (Zero::Float(float), _) if !self.fixed_zeros => float.encode(&[grid.zero], &mut self.zeros),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A slab is gone through three times. One that is small is merged once and kept.
struct Pass {
    slab: Range<usize>,
    kept: Option<Vec<f32>>,
    piece: Vec<f32>,
}

impl Pass {
    fn new(slab: Range<usize>) -> Self {
        Self { slab, kept: None, piece: Vec::new() }
    }

    fn run(&mut self, fill: &mut Fill<'_>, mut take: impl FnMut(usize, &[f32])) -> Result<()> {
        if let Some(values) = &self.kept {
            take(self.slab.start, values);
            return Ok(());
        }
        for start in self.slab.clone().step_by(PIECE) {
            self.piece.resize(PIECE.min(self.slab.end - start), 0.0);
            fill(start, &mut self.piece)?;
            take(start, &self.piece);
        }
        if self.slab.len() <= PIECE {
            self.kept = Some(std::mem::take(&mut self.piece));
        }
        Ok(())
    }
}

impl Grid {
    fn number(self, code: i32) -> f32 {
        (exact(code) - self.zero) * self.scale
    }

    fn code(self, layout: &Layout, value: f32) -> i32 {
        let code = if self.scale == 0.0 { self.zero } else { value / self.scale + self.zero };
        // NaN, of an infinite scale, becomes 0: its error is NaN, and another grid is chosen.
        whole(code).clamp(layout.codes.lowest(), layout.codes.highest())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and what is too large is clamped")]
fn whole(value: f32) -> i32 {
    value.round_ties_even() as i32
}

/// The first of the least; what is NaN is no candidate.
fn first_least(errors: &[f64; MOST]) -> usize {
    let mut best = 0;
    for (i, error) in errors.iter().enumerate() {
        if *error < errors[best] || errors[best].is_nan() {
            best = i;
        }
    }
    best
}

/// The grids that numbers from `low` to `high` may get: the channel's own first.
fn candidates(layout: &Layout, own: Grid, low: f32, high: f32, fixed_zeros: bool) -> [Grid; MOST] {
    let (low, high) = (low.min(0.0), high.max(0.0));
    let (bottom, top) = (exact(layout.codes.lowest()), exact(layout.codes.highest()));
    let stored = |scale: f32, zero: f32| {
        let scale = layout.scale.stored(scale);
        if scale.is_finite() && scale != 0.0 { Grid { scale, zero } } else { own }
    };
    // Symmetric around a zero that is given; with a negative scale the odd step is on the other side.
    let around = |zero: f32| {
        let reach = |below: f32, above: f32| f32::max(span(-low, below), span(high, above));
        let upright = stored(reach(zero - bottom, top - zero), zero);
        let turned = if layout.negative { stored(-reach(top - zero, zero - bottom), zero) } else { own };
        [upright, turned]
    };
    let middle = exact(match layout.zero {
        Zero::Always(zero) => zero,
        _ if layout.codes.signed => 0,
        _ => 1 << (layout.codes.bits - 1),
    });
    let free = match layout.zero {
        Zero::Always(_) => None,
        _ if fixed_zeros => None,
        Zero::Codes(_) => Some(None),
        Zero::Float(float) => Some(Some(float)),
    };
    let Some(float) = free else {
        let [upright, turned] = around(own.zero);
        return [own, upright, turned, own];
    };
    let [upright, turned] = around(middle);
    let scale = layout.scale.stored((high - low) / (top - bottom));
    let zero = bottom - if scale == 0.0 { 0.0 } else { low / scale };
    let zero = float.map_or_else(|| zero.round_ties_even().clamp(bottom, top), |float: Float| float.stored(zero));
    [own, stored(scale, zero), upright, turned]
}

/// The step that takes so many codes to a distance; a distance without codes asks for none.
fn span(distance: f32, codes: f32) -> f32 {
    if distance <= 0.0 || codes <= 0.0 { 0.0 } else { distance / codes }
}
