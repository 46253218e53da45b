//! Which scale and zero point belong to which element of a quantised tensor.

use super::packing::Packing;
use crate::float::Float;

/// A tensor of integers, seen as `[outer, len, inner]` with the quantised axis in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) outer: usize,
    pub(crate) len: usize,
    pub(crate) inner: usize,
    pub(crate) group: Group,
    pub(crate) codes: Packing,
    pub(crate) scale: Float,
    pub(crate) zero: Zero,
    /// Whether a scale may be negative, which gives a symmetric grid its odd step on the other side.
    pub(crate) negative: bool,
}

/// Elements that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Tensor,
    /// An index of the middle axis.
    Axis,
    /// So many neighbours along the middle axis.
    Block(usize),
}

/// The integer that stands for zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zero {
    Always(i32),
    /// A tensor of integers like the weights.
    Codes(Packing),
    /// A tensor of numbers.
    Float(Float),
}

impl Layout {
    pub(crate) fn elements(&self) -> usize {
        self.outer * self.len * self.inner
    }

    /// Scales in all.
    pub(crate) fn channels(&self) -> usize {
        match self.group {
            Group::Tensor => 1,
            Group::Axis => self.len,
            Group::Block(block) => self.outer * self.len.div_ceil(block) * self.inner,
        }
    }

    /// The scale of an element.
    pub(crate) fn channel(&self, element: usize) -> usize {
        match self.group {
            Group::Tensor => 0,
            Group::Axis => element / self.inner % self.len,
            Group::Block(block) => {
                let (outer, rest) = (element / (self.len * self.inner), element % (self.len * self.inner));
                (outer * self.len.div_ceil(block) + rest / self.inner / block) * self.inner + rest % self.inner
            }
        }
    }

    /// Elements whose scales are theirs alone: rows of blocks, or the whole tensor. At least one row, and no more rows
    /// than `elements` hold.
    pub(crate) fn slab(&self, elements: usize) -> usize {
        match self.group {
            Group::Block(_) => {
                let row = self.len * self.inner;
                row * (elements / row.max(1)).max(1)
            }
            Group::Tensor | Group::Axis => self.elements(),
        }
    }

    /// The scales of the elements from `start` to `end`, and some beside them.
    pub(crate) fn channel_range(&self, start: usize, end: usize) -> std::ops::Range<usize> {
        match self.group {
            Group::Tensor | Group::Axis => 0..self.channels(),
            Group::Block(block) => {
                let row = self.len * self.inner;
                let per_row = self.len.div_ceil(block) * self.inner;
                start / row * per_row..end.div_ceil(row) * per_row
            }
        }
    }
}
