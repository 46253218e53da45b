//! Which shapes a tensor can have.

use crate::proto::{DimensionValue, Type, TypeValue};

/// Elements of one tensor: a table of logits for 2 million tokens and as many positions. What is larger fits into no
/// memory, and sums of what is smaller do not overflow.
const MAX_ELEMENTS: u64 = 1 << 40;

/// Dimensions of one tensor; models have four or five.
pub(crate) const MAX_DIMENSIONS: usize = 64;

/// The elements of a tensor of this shape; `None` if there can be none like that.
pub(crate) fn elements(dims: &[i64]) -> Option<u64> {
    if dims.len() > MAX_DIMENSIONS {
        return None;
    }
    let product = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?))?;
    (product <= MAX_ELEMENTS).then_some(product)
}

/// Whether a value can have this type. A dimension of -1 is how some exporters write one that may be anything.
pub(crate) fn possible(r#type: &Type) -> bool {
    match &r#type.value {
        Some(TypeValue::Tensor(tensor) | TypeValue::SparseTensor(tensor)) => {
            let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
            let fixed: Vec<i64> = dims
                .filter_map(|dim| match dim.value {
                    Some(DimensionValue::Fixed(n)) if n != -1 => Some(n),
                    _ => None,
                })
                .collect();
            elements(&fixed).is_some()
        }
        Some(TypeValue::Sequence(element) | TypeValue::Optional(element)) => {
            element.elem_type.as_deref().is_none_or(possible)
        }
        Some(TypeValue::Map(map)) => map.value_type.as_deref().is_none_or(possible),
        Some(TypeValue::Opaque(_)) | None => true,
    }
}
