use crate::{FusedRow, FusionState, FusionStep, PromptScore, Result, RoleRow, TokenId};

/// The state of a rule that depends on the present position only, as most fusion strategies do. It is a [`FusionState`] whose
/// `commit` and `rollback` do nothing and whose `fork` is a clone.
///
/// Methods take `&mut self` for buffers and for what the prompt decides. Nothing that a step writes may change what a later
/// step computes.
///
/// ```
/// use logitfuse_core::{FusedRow, FusionState, FusionStep, Memoryless, Result, RoleRow};
///
/// #[derive(Clone)]
/// struct Negate;
///
/// impl Memoryless for Negate {
///     fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
///         out.logits.iter_mut().zip(step.row(0).logits()).for_each(|(out, x)| *out = -x);
///         Ok(())
///     }
/// }
///
/// let mut state: Box<dyn FusionState> = Box::new(Negate);
/// let (rows, mut fused) = ([RoleRow::new(&[1.0, -2.0], 1.05, 0.0)], [0.0; 2]);
/// let mut out = FusedRow { logits: &mut fused, trace: &mut [] };
/// FusionState::fuse(state.fork()?.as_mut(), &FusionStep::new(&rows, &[]), &mut out)?;
/// assert_eq!(fused, [-1.0, 2.0]);
/// state.commit(&[1])?;
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub trait Memoryless: Clone + Send + 'static {
    /// See [`FusionState::read_prompt`].
    fn read_prompt(&mut self, step: &FusionStep<'_>, next: TokenId) -> Result<()> {
        let _ = (step, next);
        Ok(())
    }

    /// See [`FusionState::begin`].
    fn begin(&mut self, step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        let _ = (step, prompt);
        Ok(())
    }

    /// See [`FusionState::fuse`].
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()>;

    /// See [`FusionState::early_exit`].
    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        let _ = (lead, committed, out);
        Ok(false)
    }
}

impl<R: Memoryless> FusionState for R {
    fn read_prompt(&mut self, step: &FusionStep<'_>, next: TokenId) -> Result<()> {
        Memoryless::read_prompt(self, step, next)
    }

    fn begin(&mut self, step: &FusionStep<'_>, prompt: &[PromptScore]) -> Result<()> {
        Memoryless::begin(self, step, prompt)
    }

    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        Memoryless::fuse(self, step, out)
    }

    fn early_exit(&mut self, lead: &RoleRow<'_>, committed: &[TokenId], out: &mut FusedRow<'_>) -> Result<bool> {
        Memoryless::early_exit(self, lead, committed, out)
    }

    fn commit(&mut self, _tokens: &[TokenId]) -> Result<()> {
        Ok(())
    }

    fn rollback(&mut self, _n: usize) -> Result<()> {
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn FusionState>> {
        Ok(Box::new(self.clone()))
    }
}
