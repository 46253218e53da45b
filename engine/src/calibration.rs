//! Unlabelled prompts by which a strategy gets to know the sources.

use std::{ops::ControlFlow, sync::Arc};

use logitfuse_core::{CalibrationRows, CalibrationSpec, Error, ErrorKind, PromptReading, Result, TokenId};

use crate::{Cancel, Decoder, Event, Fusion, Observing, Request, Role};

/// The unlabelled prompts of one binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalibrationPrompts {
    /// The binding that brings them, a place in [`SessionInfo::bindings`](logitfuse_core::SessionInfo::bindings).
    pub binding: usize,
    /// Each as in [`Request::prompts`](crate::Request::prompts): one per binding of the fusion. Those of bindings that
    /// [`CalibrationSpec::rows_of`] does not name are ignored and may be empty.
    pub prompts: Vec<Vec<Vec<TokenId>>>,
}

impl Decoder {
    /// Runs calibration prompts and lets a fusion's strategy fit itself to what the sources say after them. Returns the
    /// fusion with the fitted strategy, whose trace may have more columns.
    ///
    /// # Errors
    /// `InvalidConfig` if the strategy takes no calibration prompts, or a binding has none or one that cannot be run; those
    /// of the strategy, which may be unable to learn anything from them.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use logitfuse_dynamic_kl::{DynamicKl, Params};
    /// use logitfuse_engine::{CalibrationPrompts, Decoder, Role};
    /// use logitfuse_replay::SyntheticSource;
    ///
    /// let source = |seed| Box::new(SyntheticSource::new(&format!("model {seed}"), 32, seed));
    /// let mut decoder = Decoder::builder(Arc::new(DynamicKl::new(Params::default())?))
    ///     .source(source(1))
    ///     .source(source(2))
    ///     .source(source(3))
    ///     .roles([Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)])
    ///     .build()?;
    /// // The base takes no part; expert and anti read three prompts of the expert's kind.
    /// let prompts = [[1, 2, 3], [1, 4, 3], [1, 5, 3]].map(|prompt| vec![vec![], prompt.to_vec(), prompt.to_vec()]);
    /// let fusion = decoder.fusion().clone();
    /// let fitted = decoder.calibrated(&fusion, &[CalibrationPrompts { binding: 1, prompts: prompts.to_vec() }])?;
    /// assert!(fitted.strategy().info().trace.iter().any(|column| column.name == "selected_expert"));
    /// # Ok::<(), logitfuse_core::Error>(())
    /// ```
    pub fn calibrated(&mut self, fusion: &Fusion, prompts: &[CalibrationPrompts]) -> Result<Fusion> {
        let spec = fusion.strategy().info().calibration.clone();
        let fitted = fusion.strategy().calibrated(fusion.session(), &mut |binding| {
            let own = prompts.iter().find(|p| p.binding == binding).map_or(&[][..], |p| &p.prompts);
            self.rows_after(fusion, binding, own, spec.as_ref())
        })?;
        fusion.with_strategy(fitted)
    }

    /// As [`calibrated`](Self::calibrated), for the decoder's own fusion, which is replaced.
    ///
    /// # Errors
    /// As [`calibrated`](Self::calibrated).
    pub fn calibrate(&mut self, prompts: &[CalibrationPrompts]) -> Result<()> {
        let fitted = self.calibrated(&self.fusion().clone(), prompts)?;
        self.set_fusion(&fitted)
    }

    /// What the bindings of the roles that are asked for say after each of these prompts.
    fn rows_after(
        &mut self,
        fusion: &Fusion,
        binding: usize,
        prompts: &[Vec<Vec<TokenId>>],
        spec: Option<&CalibrationSpec>,
    ) -> Result<CalibrationRows> {
        let bindings = &fusion.session().bindings;
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
        if wanted.is_empty() {
            return Ok(rows);
        }
        let roles = wanted.iter().map(|&b| Role::new(Observing::ROLE, fusion.binding_sources()[b]));
        let observing = Fusion::new(fusion.pool(), Arc::new(Observing::new(PromptReading::End)), roles)?;
        for (nth, prompt) in prompts.iter().enumerate() {
            let read = wanted.iter().map(|&b| prompt.get(b).cloned().unwrap_or_default());
            let request = Request::new(read.collect::<Vec<_>>()).fusion(&observing).max_new_tokens(1).observe_rows();
            let ran = self.generate(&[request], &Cancel::new(), &mut |event| {
                if let Event::Rows(observed) = event {
                    for (&binding, row) in wanted.iter().zip(observed.roles) {
                        if let Some(row) = row {
                            rows.push(nth, binding, row.logits());
                        }
                    }
                }
                ControlFlow::Continue(())
            });
            ran.map_err(|e| {
                let (role, source) = (&own.role, &own.source);
                e.context(format_args!("calibration prompt {} of role `{role}` (source `{source}`)", nth + 1))
            })?;
        }
        Ok(rows)
    }
}
