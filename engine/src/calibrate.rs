//! Unlabelled prompts by which a strategy gets to know the sources.

use std::sync::Arc;

use logitfuse_core::{CalibrationRows, CalibrationSpec, Error, ErrorKind, Result, TokenId};

use crate::{
    Engine, Timings,
    sequence::{Slot, Yielded},
    step::Fuser,
};

/// The unlabelled prompts of one binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalibrationPrompts {
    /// The binding that brings them, a place in [`SessionInfo::bindings`](logitfuse_core::SessionInfo::bindings).
    pub binding: usize,
    /// Each as in [`Request::prompts`](crate::Request::prompts): one per binding of the engine. Those of bindings that
    /// [`CalibrationSpec::rows_of`] does not name are ignored and may be empty.
    pub prompts: Vec<Vec<Vec<TokenId>>>,
}

impl Engine {
    /// Runs calibration prompts and lets the strategy fit itself to what the sources say after them. Once, before anything
    /// is generated; the strategy's trace may have more columns afterwards.
    ///
    /// # Errors
    /// `InvalidConfig` if the strategy takes no calibration prompts, or a binding has none or one that cannot be run; those
    /// of the strategy, which may be unable to learn anything from them.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use logitfuse_dynamic_kl::{DynamicKl, Params};
    /// use logitfuse_engine::{CalibrationPrompts, Engine, Role};
    /// use logitfuse_replay::SyntheticSource;
    ///
    /// let source = |seed| Box::new(SyntheticSource::new(&format!("model {seed}"), 32, seed));
    /// let mut engine = Engine::builder(Arc::new(DynamicKl::new(Params::default())?))
    ///     .source(source(1))
    ///     .source(source(2))
    ///     .source(source(3))
    ///     .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)])
    ///     .build()?;
    /// // The base takes no part; expert and anti read three prompts of the expert's kind.
    /// let prompts = [[1, 2, 3], [1, 4, 3], [1, 5, 3]].map(|prompt| vec![vec![], prompt.to_vec(), prompt.to_vec()]);
    /// engine.calibrate(&[CalibrationPrompts { binding: 1, prompts: prompts.to_vec() }])?;
    /// assert!(engine.strategy().info().trace.iter().any(|column| column.name == "selected_expert"));
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    pub fn calibrate(&mut self, prompts: &[CalibrationPrompts]) -> Result<()> {
        let strategy = Arc::clone(&self.strategy);
        let session = self.session.clone();
        let spec = strategy.info().calibration.clone();
        let fitted = strategy.calibrated(&session, &mut |binding| {
            let own = prompts.iter().find(|p| p.binding == binding).map_or(&[][..], |p| &p.prompts);
            self.rows_after(binding, own, spec.as_ref())
        })?;
        let (before, after) = (strategy.info(), fitted.info());
        if before.roles != after.roles || before.lead_role != after.lead_role {
            let what = format!("strategy `{}` has other roles once it is calibrated", before.id);
            return Err(Error::new(ErrorKind::Internal, what).with_help("this is a fault of the strategy"));
        }
        self.fuser = Fuser::new(&after.id, self.session.vocabulary.width(), after.trace.len());
        self.reading = after.prompt;
        self.strategy = fitted;
        Ok(())
    }

    /// What the bindings of the roles that are asked for say after each of these prompts.
    fn rows_after(
        &mut self,
        binding: usize,
        prompts: &[Vec<Vec<TokenId>>],
        spec: Option<&CalibrationSpec>,
    ) -> Result<CalibrationRows> {
        let bindings = &self.session.bindings;
        let Some(own) = bindings.get(binding) else {
            let what = format!("binding {binding} brings no calibration prompts: there are {}", bindings.len());
            return Err(Error::new(ErrorKind::Internal, what).with_help("this is a fault of the strategy"));
        };
        if prompts.is_empty() {
            let what = format!("role `{}` (source `{}`) has no calibration prompts", own.role, own.source);
            return Err(Error::new(ErrorKind::InvalidConfig, what)
                .with_help("give every source of the role some unlabelled prompts of its kind"));
        }
        let wanted: Vec<usize> = (0..bindings.len())
            .filter(|&b| spec.is_some_and(|spec| spec.rows_of.contains(&bindings[b].role)))
            .collect();
        let most = spec.map_or(0, |spec| spec.prompts);
        let prompts = &prompts[..prompts.len().min(most)];
        let mut rows = CalibrationRows::new(prompts.len());
        for (nth, prompt) in prompts.iter().enumerate() {
            self.rows_at_end(prompt, &wanted, &mut |binding, row| rows.push(nth, binding, row))?;
        }
        Ok(rows)
    }

    /// Runs one prompt through the sources of these bindings and hands out the row of its end under each.
    fn rows_at_end(
        &mut self,
        prompts: &[Vec<TokenId>],
        wanted: &[usize],
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.check_prompts(prompts, wanted)?;
        let mut slots: Vec<Slot> = Vec::new();
        let result = self.run_to_end(prompts, wanted, &mut slots, each);
        for slot in slots {
            self.release(slot.source, slot.sequence);
        }
        result
    }

    fn run_to_end(
        &mut self,
        prompts: &[Vec<TokenId>],
        wanted: &[usize],
        slots: &mut Vec<Slot>,
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        let mut slot_of = Vec::new();
        for &binding in wanted {
            let (prompt, source) = (&prompts[binding], self.binding_sources[binding]);
            let known = slots.iter().position(|slot| slot.source == source && slot.prompt == *prompt);
            slot_of.push(known.unwrap_or(slots.len()));
            if known.is_none() {
                slots.push(self.open_slot(prompt, source, 0)?);
            }
        }
        let mut fed: Vec<(&mut Slot, usize)> = slots.iter_mut().map(|slot| (slot, 0)).collect();
        let forwarded = self.feed_prompts(&mut fed, &mut Timings::new(self.workers.len()), &mut |_| true)?;
        let yielded: Yielded = forwarded.into_iter().collect();
        let width = self.session.vocabulary.width();
        for (&binding, &slot) in wanted.iter().zip(&slot_of) {
            let row = slots[slot].row(&[], &yielded, width)?;
            let row = row.ok_or_else(|| Error::new(ErrorKind::Internal, "a calibration prompt yielded no row"))?;
            each(binding, row.logits());
        }
        self.recycle(yielded);
        Ok(())
    }
}
