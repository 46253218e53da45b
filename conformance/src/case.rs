use std::sync::Arc;

use logitfuse_core::numerics::log_sum_exp;
use logitfuse_core::{
    CalibrationRows, Error, ErrorKind, FusedRow, FusionState, FusionStep, FusionStrategy, PromptReading, PromptScore,
    Result, RoleBinding, RoleRow, SessionInfo, SharedVocabulary, TokenId,
};

/// A short run of a strategy: the bindings, and the logits of every row at every position.
#[derive(Clone, Debug)]
pub struct Case {
    /// Roles and vocabulary.
    pub session: SessionInfo,
    /// `steps[position][row]` are the logits of the row that plays `session.bindings[row]`.
    pub steps: Vec<Vec<Vec<f32>>>,
    /// `tokens[position]` is committed after that position was fused; every row allows it.
    pub tokens: Vec<TokenId>,
}

/// The output of a strategy at one position.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) logits: Vec<f32>,
    pub(crate) trace: Vec<f64>,
}

impl Output {
    /// Logits and trace as bits, so that NaN, which a trace may hold, equals itself.
    pub(crate) fn bits(&self) -> (Vec<u32>, Vec<u64>) {
        (self.logits.iter().map(|x| x.to_bits()).collect(), self.trace.iter().map(|x| x.to_bits()).collect())
    }
}

impl Case {
    /// The number of token ids of every row.
    pub fn width(&self) -> usize {
        self.session.vocabulary.width()
    }

    /// The same case with every row changed by `f`, which is given the row's index in the session's bindings.
    #[must_use]
    pub fn map_rows(&self, f: impl Fn(usize, &[f32]) -> Vec<f32>) -> Self {
        let steps = self.steps.iter().map(|rows| rows.iter().enumerate().map(|(i, row)| f(i, row)).collect()).collect();
        Self { steps, ..self.clone() }
    }

    /// The same case where every row of role `copy` equals the first row of role `original`.
    #[must_use]
    pub fn with_role_equal(&self, copy: &str, original: &str) -> Self {
        let mut case = self.clone();
        if let Some(original) = self.session.row_of(original) {
            for rows in &mut case.steps {
                let row = rows[original].clone();
                for index in self.session.rows_of(copy) {
                    rows[index].clone_from(&row);
                }
            }
        }
        case
    }

    /// The same text with other roles: each `(new, old)` is a row of role `new` equal to the first row of role
    /// `old`. Strategies with different roles can so be compared on one case.
    ///
    /// ```
    /// use logitfuse_conformance::generators;
    /// use proptest::prelude::*;
    ///
    /// proptest!(|(case in generators::case(&[("base", 1), ("anti", 1)]))| {
    ///     let three = case.with_roles(&[("base", "base"), ("expert", "base"), ("anti", "anti")]);
    ///     prop_assert_eq!(&three.steps[0][1], &case.steps[0][0]);
    /// });
    /// ```
    #[must_use]
    pub fn with_roles(&self, roles: &[(&str, &str)]) -> Self {
        let places = roles.iter().filter_map(|(new, old)| Some((*new, self.session.row_of(old)?)));
        let (bindings, places): (Vec<RoleBinding>, Vec<usize>) = places
            .map(|(new, old)| (RoleBinding { role: new.to_owned(), ..self.session.bindings[old].clone() }, old))
            .unzip();
        let steps = self.steps.iter().map(|rows| places.iter().map(|&old| rows[old].clone()).collect()).collect();
        Self {
            session: SessionInfo::new(bindings, self.session.vocabulary.clone()),
            steps,
            tokens: self.tokens.clone(),
        }
    }

    /// The session of rows of these roles, each with a source of its own.
    pub(crate) fn session(roles: &[(&str, usize)], width: usize) -> SessionInfo {
        let bindings = roles.iter().flat_map(|&(role, count)| {
            (0..count).map(move |i| RoleBinding { role: role.to_owned(), source: format!("{role}-{i}") })
        });
        SessionInfo::new(bindings, SharedVocabulary::new(width, []))
    }

    /// Fuses one position, all earlier tokens being committed.
    pub(crate) fn fuse(
        &self,
        strategy: &dyn FusionStrategy,
        state: &mut dyn FusionState,
        step: usize,
    ) -> Result<Output> {
        self.fuse_with_trace(state, step, strategy.info().trace.len())
    }

    /// Fuses one position, asking for so many trace columns: all or none.
    pub(crate) fn fuse_with_trace(&self, state: &mut dyn FusionState, step: usize, columns: usize) -> Result<Output> {
        let rows = self.rows(step);
        // NaN everywhere, so that an entry that was not written shows.
        let mut output = Output { logits: vec![f32::NAN; self.width()], trace: vec![f64::NAN; columns] };
        let mut fused = FusedRow { logits: &mut output.logits, trace: &mut output.trace };
        state.fuse(&FusionStep::new(&rows, &self.tokens[..step]), &mut fused)?;
        Ok(output)
    }

    /// Tries an early exit with the row of the lead role (of the first role, if there is no lead role); what was written if it
    /// succeeded.
    pub(crate) fn early_exit(
        &self,
        strategy: &dyn FusionStrategy,
        state: &mut dyn FusionState,
        step: usize,
    ) -> Result<Option<Output>> {
        let info = strategy.info();
        let lead = info.lead_role.as_deref().or_else(|| info.roles.first().map(|role| role.name.as_str()));
        let lead = lead.and_then(|role| self.session.row_of(role)).unwrap_or(0);
        let mut output = Output { logits: vec![f32::NAN; self.width()], trace: vec![f64::NAN; info.trace.len()] };
        let mut out = FusedRow { logits: &mut output.logits, trace: &mut output.trace };
        let exited = state.early_exit(&self.rows(step)[lead], &self.tokens[..step], &mut out)?;
        Ok(exited.then_some(output))
    }

    /// The rows of a position, with the numbers that an engine would hand over.
    pub fn rows(&self, step: usize) -> Vec<RoleRow<'_>> {
        let rows = self.steps[step].iter().enumerate();
        rows.map(|(index, row)| RoleRow::new(row, log_sum_exp(row), self.sequence_log_prob(index, step))).collect()
    }

    /// Fuses and commits the positions `from..to`.
    pub(crate) fn run(
        &self,
        strategy: &dyn FusionStrategy,
        state: &mut dyn FusionState,
        positions: std::ops::Range<usize>,
    ) -> Result<Vec<Output>> {
        positions
            .map(|step| {
                let output = self.fuse(strategy, state, step)?;
                state.commit(&self.tokens[step..=step])?;
                Ok(output)
            })
            .collect()
    }

    /// Fused rows and traces at every position, by a fresh state that fuses, commits, and so on.
    ///
    /// # Errors
    /// Those of the strategy.
    pub fn fused(&self, strategy: &dyn FusionStrategy) -> Result<Vec<(Vec<f32>, Vec<f64>)>> {
        Ok(self.run_all(strategy)?.into_iter().map(|output| (output.logits, output.trace)).collect())
    }

    /// Fuses and commits everything with a fresh state.
    pub(crate) fn run_all(&self, strategy: &dyn FusionStrategy) -> Result<Vec<Output>> {
        self.run(strategy, self.start(strategy)?.as_mut(), 0..self.steps.len())
    }

    /// A fresh state that was told its prompt, as much of it as the strategy asks for, and knows the rows of its end.
    ///
    /// # Errors
    /// Those of the strategy.
    pub fn start(&self, strategy: &dyn FusionStrategy) -> Result<Box<dyn FusionState>> {
        let mut state = strategy.start(&self.session)?;
        for (rows, next) in self.prompt(strategy) {
            let rows: Vec<RoleRow<'_>> = rows.iter().map(|row| RoleRow::new(row, log_sum_exp(row), 0.0)).collect();
            state.read_prompt(&FusionStep::new(&rows, &[]), next)?;
        }
        if !self.steps.is_empty() {
            state.begin(&FusionStep::new(&self.rows(0), &[]), &self.prompt_scores(strategy))?;
        }
        Ok(state)
    }

    /// The rows of the prompt's positions, each with the token that follows: the positions of the case, the last one first.
    /// None if the strategy does not ask for them.
    pub fn prompt<'a>(
        &'a self,
        strategy: &dyn FusionStrategy,
    ) -> impl Iterator<Item = (&'a [Vec<f32>], TokenId)> + use<'a> {
        let asked = strategy.info().prompt == PromptReading::Rows;
        let positions = self.steps.iter().zip(&self.tokens).rev().filter(move |_| asked);
        positions.map(|(rows, &next)| (rows.as_slice(), next))
    }

    /// How probable the prompt was under every row: a prompt of eight tokens, under which sources differ a little. Empty if the
    /// strategy does not ask.
    pub fn prompt_scores(&self, strategy: &dyn FusionStrategy) -> Vec<PromptScore> {
        let score = |index: usize| PromptScore { log_prob: -10.0 - 0.5 * index as f64, tokens: 8 };
        let asked = strategy.info().prompt != PromptReading::End;
        (0..self.session.bindings.len()).filter(|_| asked).map(score).collect()
    }

    /// The strategy fitted to calibration prompts whose ends resemble the positions of the case; `None` if it takes no
    /// calibration prompts.
    ///
    /// # Errors
    /// Those of the strategy.
    pub fn calibrated(&self, strategy: &dyn FusionStrategy) -> Result<Option<Arc<dyn FusionStrategy>>> {
        let Some(spec) = &strategy.info().calibration else { return Ok(None) };
        let prompts = spec.prompts.min(3);
        let asked = |binding: &usize| spec.rows_of.contains(&self.session.bindings[*binding].role);
        let fitted = strategy.calibrated(&self.session, &mut |owner| {
            if self.session.bindings.get(owner).is_none_or(|binding| binding.role != spec.role) {
                let what = format!("rows after the prompts of binding {owner}, which is not of role `{}`", spec.role);
                return Err(Error::new(ErrorKind::Internal, what));
            }
            let mut rows = CalibrationRows::new(prompts);
            for prompt in 0..prompts {
                let position = &self.steps[(owner + prompt) % self.steps.len()];
                for binding in (0..position.len()).filter(asked) {
                    let mut row = position[binding].clone();
                    // Masks stay; prompts of one kind differ a little, and those of two kinds more.
                    row[(5 * owner + prompt) % self.width()] += 2.0 + owner as f32;
                    rows.push(prompt, binding, &row);
                }
            }
            Ok(rows)
        });
        fitted.map(Some)
    }

    /// Calls `check` with the strategy in each form that can run: as it is, unless it cannot do without calibration prompts,
    /// and fitted to some, if it takes any.
    ///
    /// # Errors
    /// The first one of `check`, or that of the calibration as `failed` makes it.
    pub fn in_each_form<E>(
        &self,
        strategy: &dyn FusionStrategy,
        failed: impl FnOnce(Error) -> E,
        mut check: impl FnMut(&dyn FusionStrategy) -> Result<(), E>,
    ) -> Result<(), E> {
        if strategy.info().calibration.as_ref().is_none_or(|spec| !spec.required) {
            check(strategy)?;
        }
        match self.calibrated(strategy) {
            Ok(Some(fitted)) => check(fitted.as_ref()),
            Ok(None) => Ok(()),
            Err(e) => Err(failed(e)),
        }
    }

    /// Whether the strategy runs in this session, calibrated if it must be.
    ///
    /// # Errors
    /// Why it does not.
    pub fn accepts(strategy: &dyn FusionStrategy, session: &SessionInfo) -> Result<()> {
        if strategy.info().calibration.as_ref().is_none_or(|spec| !spec.required) {
            return strategy.start(session).map(drop);
        }
        let width = session.vocabulary.width();
        let row = |binding: usize| (0..width).map(|id| ((7 * id + 3 * binding) % 5) as f32).collect();
        let rows: Vec<Vec<f32>> = (0..session.bindings.len()).map(row).collect();
        let case = Self { session: session.clone(), steps: vec![rows], tokens: vec![0] };
        case.calibrated(strategy)?.map_or(Ok(()), |fitted| fitted.start(session).map(drop))
    }

    /// Log-probability of the committed tokens before a position under one row.
    pub fn sequence_log_prob(&self, index: usize, step: usize) -> f64 {
        let committed = self.tokens[..step].iter().zip(&self.steps);
        committed.map(|(&token, rows)| f64::from(rows[index][token as usize]) - log_sum_exp(&rows[index])).sum()
    }
}
