//! Element types that are merged as they are.

use half::{bf16, f16, slice::HalfFloatSliceExt as _};
use logitfuse_onnx_graph::ElementType;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    F32,
    F16,
    Bf16,
}

impl Float {
    pub(crate) fn of(element: ElementType) -> Option<Self> {
        match element {
            ElementType::FLOAT => Some(Self::F32),
            ElementType::FLOAT16 => Some(Self::F16),
            ElementType::BFLOAT16 => Some(Self::Bf16),
            _ => None,
        }
    }

    pub(crate) fn size(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "fp32",
            Self::F16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }

    /// Little-endian elements as f32, which holds all three types exactly.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => {
                let halves: Vec<f16> = bytes.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes)).collect();
                halves.convert_to_f32_slice(out);
            }
            Self::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
        }
    }

    /// Appends the nearest elements; ties go to the even one.
    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::F16 => out.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
            Self::Bf16 => out.extend(values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes())),
        }
    }

    /// What is left of a number that is stored.
    pub(crate) fn stored(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_that_a_type_has_comes_back() {
        for float in [Float::F16, Float::Bf16] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let mut values = vec![0.0; 1 << 16];
            float.decode(&bytes, &mut values);
            let mut again = Vec::new();
            float.encode(&values, &mut again);
            let same = bytes.chunks(2).zip(again.chunks(2)).zip(&values);
            assert!(same.filter(|(_, value)| !value.is_nan()).all(|((a, b), _)| a == b), "{float:?}");
        }
    }

    #[test]
    fn the_nearest_number_is_stored() {
        for (float, number, stored) in [
            (Float::F16, 1.0 + 1.0 / 2048.0, 1.0_f32),
            (Float::F16, 1.0 + 3.0 / 2048.0, 1.0 + 2.0 / 1024.0),
            (Float::Bf16, 1.0 + 1.0 / 256.0, 1.0),
            (Float::F16, 1e6, f32::INFINITY),
            (Float::F32, 0.1, 0.1),
        ] {
            assert_eq!(float.stored(number).to_bits(), stored.to_bits(), "{float:?} {number}");
        }
    }
}
