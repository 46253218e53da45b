use pulp::{Arch, NullaryFnOnce};

/// Runs a kernel compiled for the best instruction set of this machine, chosen at run time.
///
/// The kernel's `call` must be `#[inline(always)]`, and so must be all that it calls: only code that ends up inside the
/// dispatched function is compiled for the wide registers.
pub(super) fn dispatch<K: NullaryFnOnce>(kernel: K) -> K::Output {
    #[cfg(test)]
    let kernel = match super::bits::forced(kernel) {
        Ok(output) => return output,
        Err(kernel) => kernel,
    };
    Arch::new().dispatch(kernel)
}
