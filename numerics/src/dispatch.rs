use pulp::{Arch, NullaryFnOnce};

/// Runs a kernel compiled for the best instruction set of this machine, chosen at run time.
///
/// A kernel is dispatched by the crate that defines it, so that it is compiled with everything it inlines, the lanes of
/// [`logitfuse_core`] too. Its `call` must be `#[inline(always)]`, and so must be all that it calls.
pub(crate) fn dispatch<K: NullaryFnOnce>(kernel: K) -> K::Output {
    #[cfg(test)]
    let kernel = match crate::bits::forced(kernel) {
        Ok(output) => return output,
        Err(kernel) => kernel,
    };
    Arch::new().dispatch(kernel)
}
