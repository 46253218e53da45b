//! Speculative decoding: what drafts are, how long they should be, and where they come from without a model.

pub(crate) mod lookup;
pub(crate) mod scheduler;

use logitfuse_core::{Candidates, TokenId};

/// Speculative decoding: a cheap drafter proposes the next tokens, all sources look at the whole draft in one `forward`
/// each, and the *fused* distribution accepts a prefix of it.
///
/// Texts are not changed: greedy, a drafted token is accepted if it is the most probable of the fused row; sampled, it is
/// accepted with probability `min(1, p/q)` and is replaced by a draw from `max(0, p − q)` otherwise, where `p` is the fused
/// distribution after penalties, temperature and truncation, and `q` the drafter's. Tokens are then distributed as
/// without drafts (Leviathan et al. 2023, theorem in appendix A.1; Chen et al. 2023, theorem 1). The strategy fuses every
/// position by itself, so a strength that is solved per token is the one of that very prefix, and it sees `commit` only
/// for tokens that are accepted.
///
/// ```
/// use logitfuse_engine::{Draft, DraftLength, Speculation};
///
/// // The source in the second binding, usually the expert, drafts four tokens at a time.
/// let speculation = Speculation { draft: Draft::Binding(1), length: DraftLength::Fixed(4) };
/// # let _ = speculation;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Speculation {
    /// The drafter.
    pub draft: Draft,
    /// How many tokens are drafted at once.
    pub length: DraftLength,
}

/// The drafter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// The source of this binding, which has to run anyway: its rows at drafted positions are not computed twice.
    Binding(usize),
    /// A source that plays no role. It reads the prompt of the first binding.
    Source(usize),
    /// Prompt lookup, which runs no model: the tokens that followed the last ones where those occurred before, in the first
    /// binding's prompt or in the text.
    PromptLookup {
        /// How many tokens are compared at most; two must agree at least.
        longest: usize,
    },
}

/// How many tokens are drafted at once.
#[derive(Clone, Debug, PartialEq)]
pub enum DraftLength {
    /// Always this many.
    Fixed(usize),
    /// As many as promise the most tokens per time, given these costs and the acceptance of the sequence's drafts so far;
    /// none where drafts do not speed decoding up. A drafter that is a model gives each token a probability, and the draft
    /// goes on while the next token is likely enough to be accepted. Depends on the sequence alone, never on a clock.
    Adaptive(DraftCosts),
}

/// What speculation costs on a machine, in any unit of time.
#[derive(Clone, Debug, PartialEq)]
pub struct DraftCosts {
    /// Drafting one token.
    pub draft: f64,
    /// `verify[n]`: running what remains to be run for a draft of `n` tokens. `verify[0]` is a step without draft; the
    /// length of the list limits that of a draft.
    pub verify: Vec<f64>,
}

/// A drafted token and the distribution that it was drawn from.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// The token.
    pub token: TokenId,
    /// Where it was drawn from; the token alone if it was not drawn.
    pub candidates: Candidates,
    /// Its probability under the drafter, after penalties; after temperature and truncation if it was drawn.
    pub confidence: f64,
}
