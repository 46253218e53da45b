use ort::value::TensorElementType;
use serde::Serialize;

/// The type of a tensor's elements, as far as a decoder's inputs and outputs use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Element {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// Brain float.
    Bf16,
    /// Signed byte: a quantised key/value cache.
    I8,
    /// Unsigned byte: a quantised key/value cache.
    U8,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// Boolean: the switch of a merged decoder.
    Bool,
    /// Anything else.
    Other,
}

impl Element {
    /// Bytes of one element; 0 for what we never allocate.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::I64 => 8,
            Self::Other => 0,
        }
    }

    /// From ONNX's own numbering, `TensorProto.DataType`.
    pub(crate) fn from_onnx(code: i32) -> Self {
        match code {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            16 => Self::Bf16,
            _ => Self::Other,
        }
    }

    pub(crate) fn from_ort(kind: TensorElementType) -> Self {
        match kind {
            TensorElementType::Float32 => Self::F32,
            TensorElementType::Float16 => Self::F16,
            TensorElementType::Bfloat16 => Self::Bf16,
            TensorElementType::Int8 => Self::I8,
            TensorElementType::Uint8 => Self::U8,
            TensorElementType::Int32 => Self::I32,
            TensorElementType::Int64 => Self::I64,
            TensorElementType::Bool => Self::Bool,
            _ => Self::Other,
        }
    }

    pub(crate) fn to_ort(self) -> TensorElementType {
        match self {
            Self::F32 => TensorElementType::Float32,
            Self::F16 => TensorElementType::Float16,
            Self::Bf16 => TensorElementType::Bfloat16,
            Self::I8 => TensorElementType::Int8,
            Self::U8 => TensorElementType::Uint8,
            Self::I32 => TensorElementType::Int32,
            Self::I64 => TensorElementType::Int64,
            Self::Bool => TensorElementType::Bool,
            Self::Other => TensorElementType::Undefined,
        }
    }

    /// Whether rows of logits of this type can be widened to f32.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
            Self::Other => "other",
        })
    }
}
