//! Quantised weights as numbers.

use std::ops::Range;

use logitfuse_core::Result;

use super::{
    layout::{Layout, Zero},
    packing::Packing,
};
use crate::{bytes::Bytes, float::Float};

/// Reads `(code − zero) · scale`.
pub(crate) struct GridReader {
    layout: Layout,
    codes: Bytes,
    scales: Bytes,
    zeros: Option<Bytes>,
    /// Scales and zero points of these channels are at hand.
    at_hand: Range<usize>,
    scale: Vec<f32>,
    zero: Vec<f32>,
    integers: Vec<i32>,
    bytes: Vec<u8>,
}

impl GridReader {
    pub(crate) fn new(layout: Layout, codes: Bytes, scales: Bytes, zeros: Option<Bytes>) -> Self {
        let (scale, zero, integers, bytes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { layout, codes, scales, zeros, at_hand: 0..0, scale, zero, integers, bytes }
    }

    pub(crate) fn read(&mut self, start: usize, out: &mut [f32]) -> Result<()> {
        let wanted = self.layout.channel_range(start, start + out.len());
        self.channels(wanted)?;
        let mut integers = std::mem::take(&mut self.integers);
        integers.resize(out.len(), 0);
        unpack(&mut self.codes, self.layout.codes, start, &mut integers, &mut self.bytes)?;
        for (i, (out, &code)) in out.iter_mut().zip(&integers).enumerate() {
            let channel = self.layout.channel(start + i) - self.at_hand.start;
            *out = (exact(code) - self.zero[channel]) * self.scale[channel];
        }
        self.integers = integers;
        Ok(())
    }

    /// Scales and zero points of some channels.
    pub(crate) fn grid(&mut self, channels: Range<usize>) -> Result<(&[f32], &[f32])> {
        self.channels(channels.clone())?;
        let range = channels.start - self.at_hand.start..channels.end - self.at_hand.start;
        Ok((&self.scale[range.clone()], &self.zero[range]))
    }

    fn channels(&mut self, wanted: Range<usize>) -> Result<()> {
        if self.at_hand.start <= wanted.start && wanted.end <= self.at_hand.end {
            return Ok(());
        }
        let (start, n) = (wanted.start, wanted.len());
        floats(&mut self.scales, self.layout.scale, start, n, &mut self.scale, &mut self.bytes)?;
        match (self.layout.zero, &mut self.zeros) {
            (Zero::Float(float), Some(zeros)) => floats(zeros, float, start, n, &mut self.zero, &mut self.bytes)?,
            (Zero::Codes(packing), Some(zeros)) => {
                self.integers.resize(n, 0);
                unpack(zeros, packing, start, &mut self.integers, &mut self.bytes)?;
                self.zero.clear();
                self.zero.extend(self.integers.iter().map(|&zero| exact(zero)));
            }
            (Zero::Always(zero), _) => {
                self.zero.clear();
                self.zero.resize(n, exact(zero));
            }
            (_, None) => self.zero.resize(n, 0.0),
        }
        self.at_hand = wanted;
        Ok(())
    }
}

fn floats(
    from: &mut Bytes,
    float: Float,
    start: usize,
    n: usize,
    out: &mut Vec<f32>,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    bytes.resize(n * float.size(), 0);
    from.read((start * float.size()) as u64, bytes)?;
    out.resize(n, 0.0);
    float.decode(bytes, out);
    Ok(())
}

fn unpack(from: &mut Bytes, packing: Packing, start: usize, out: &mut [i32], bytes: &mut Vec<u8>) -> Result<()> {
    let span = packing.span(start, out.len());
    bytes.resize(span.len(), 0);
    from.read(span.start as u64, bytes)?;
    packing.unpack(start, bytes, out);
    Ok(())
}

/// Codes have eight bits at most.
pub(crate) fn exact(code: i32) -> f32 {
    code as f32
}
