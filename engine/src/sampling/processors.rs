//! The logits processors that sampling settings stand for.

use std::collections::BTreeMap;

use logitfuse_core::{
    Error, ErrorKind, LogitsProcessor, ProcessorContext, Result, SamplingRow, TokenId, numerics::check_row,
};

/// Lowers the logits of tokens that were seen.
///
/// The repetition penalty divides the positive and multiplies the negative logits of tokens in the prompt or the text
/// (Keskar et al. 2019, eq. in §4.1, in the form that all engines use); the presence penalty is subtracted once, the
/// frequency penalty once per time, for tokens that were generated.
#[derive(Clone, Debug)]
pub struct Penalties {
    repetition: f32,
    presence: f32,
    frequency: f32,
    seen: BTreeMap<TokenId, Seen>,
    generated: Vec<TokenId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    in_prompt: bool,
    generated: u32,
}

impl Penalties {
    /// Penalties of a sequence behind `prompt`; 1, 0 and 0 change nothing.
    #[expect(clippy::cast_possible_truncation, reason = "f32 rows, f32 penalties")]
    pub fn new(repetition: f64, presence: f64, frequency: f64, prompt: &[TokenId]) -> Self {
        Self {
            repetition: repetition as f32,
            presence: presence as f32,
            frequency: frequency as f32,
            seen: prompt.iter().map(|&id| (id, Seen { in_prompt: true, generated: 0 })).collect(),
            generated: Vec::new(),
        }
    }
}

impl LogitsProcessor for Penalties {
    fn apply(&mut self, _: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
        let row = row.logits_mut();
        for (&id, seen) in &self.seen {
            let Some(x) = row.get_mut(id as usize) else { continue };
            let mut lowered = if *x > 0.0 { *x / self.repetition } else { *x * self.repetition };
            if seen.generated > 0 {
                lowered -= self.presence + self.frequency * seen.generated as f32;
            }
            *x = as_possible_as(*x, lowered);
        }
        Ok(())
    }

    fn commit(&mut self, token: TokenId) -> Result<()> {
        self.seen.entry(token).or_default().generated += 1;
        self.generated.push(token);
        Ok(())
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        for token in self.generated.drain(self.generated.len().saturating_sub(n)..) {
            let Some(seen) = self.seen.get_mut(&token) else { continue };
            seen.generated -= 1;
            if seen.generated == 0 && !seen.in_prompt {
                self.seen.remove(&token);
            }
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
        Ok(Box::new(self.clone()))
    }
}

/// What becomes of a logit: masked stays masked, and what leaves f32's range stops at its ends.
fn as_possible_as(before: f32, after: f32) -> f32 {
    if before > f32::NEG_INFINITY { after.clamp(f32::MIN, f32::MAX) } else { before }
}

/// Stands behind a request's own processors: whatever they wrote, a row of numbers goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked;

impl LogitsProcessor for Checked {
    fn apply(&mut self, context: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
        let Err(cause) = check_row(row.logits()) else { return Ok(()) };
        if row.logits().iter().all(|x| *x == f32::NEG_INFINITY) {
            // Everything is banned, which has a message of its own.
            return Ok(());
        }
        let position = context.generated.len();
        let what = format!("a logits processor wrote a row that is no distribution at token {position}: {cause}");
        Err(Error::new(ErrorKind::Numeric, what)
            .with_help("a processor leaves finite logits, or -inf for what it bans"))
    }

    fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
        Ok(Box::new(*self))
    }
}

/// Adds to the logits of single tokens; `-inf` bans a token.
#[derive(Clone, Debug)]
pub struct LogitBias(Vec<(TokenId, f32)>);

impl LogitBias {
    /// Adds each of these.
    pub fn new(bias: Vec<(TokenId, f32)>) -> Self {
        Self(bias)
    }
}

impl LogitsProcessor for LogitBias {
    fn apply(&mut self, _: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
        let row = row.logits_mut();
        for &(id, bias) in &self.0 {
            if let Some(x) = row.get_mut(id as usize) {
                *x = if bias > f32::NEG_INFINITY { as_possible_as(*x, *x + bias) } else { bias };
            }
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
        Ok(Box::new(self.clone()))
    }
}

/// A processor without state that [`SamplingRow`] implements in one call.
macro_rules! stateless {
    ($(#[$doc:meta])* $name:ident($value:ty), $call:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(pub $value);

        impl LogitsProcessor for $name {
            fn apply(&mut self, _: &ProcessorContext<'_>, row: &mut SamplingRow) -> Result<()> {
                row.$call(self.0);
                Ok(())
            }

            fn fork(&self) -> Result<Box<dyn LogitsProcessor>> {
                Ok(Box::new(*self))
            }

            fn preserves_argmax(&self) -> bool {
                true
            }
        }
    };
}

stateless! {
    /// Divides the logits; 0 keeps the most probable token alone.
    Temperature(f64), scale
}
stateless! {
    /// Keeps this many most probable tokens.
    TopK(usize), keep_top_k
}
stateless! {
    /// Keeps the smallest set of most probable tokens that holds this share of the mass (nucleus sampling, Holtzman et al.
    /// 2020, §3.1).
    TopP(f64), keep_top_p
}
stateless! {
    /// Keeps tokens at least this fraction as probable as the most probable one (Nguyen et al. 2024, §3).
    MinP(f64), keep_min_p
}
