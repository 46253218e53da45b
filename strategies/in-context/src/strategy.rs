use logitfuse_core::numerics::{Contrast, kl_both, kl_divergence, linear_combination, log_sum_exp, mask_implausible};
use logitfuse_core::{
    Error, ErrorKind, FusedRow, FusionGraph, FusionState, FusionStep, FusionStrategy, Law, Memoryless, Result,
    RoleSpec, SessionInfo, StrategyInfo,
};

use crate::{Mode, Params, divergence::jensen_shannon, params::Strength};

/// The strategy; see the [crate's page](crate) for what it computes.
#[derive(Clone, Debug)]
pub struct InContext {
    params: Params,
    strength: Strength,
    info: StrategyInfo,
}

impl InContext {
    /// A strategy with these parameters.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] with the JSON pointer of the parameter that is out of range or of another mode.
    pub fn new(params: Params) -> Result<Self> {
        let strength = params.strength()?;
        let mut info = StrategyInfo::new("in-context", roles(params.mode))
            .with_summary("strengthens what a passage, a prompt or demonstrations change")
            .with_equation(equation(params.mode))
            .with_reference(
                "context-aware decoding (arXiv 2305.14739), AdaCAD (2409.07394), \
                 classifier-free guidance for language models (2306.17806)",
            )
            .with_params_schema(schemars::schema_for!(Params).as_value().to_string())
            .with_laws([
                Law::Deterministic,
                Law::Stateless,
                Law::ShiftInvariant,
                Law::VocabEquivariant,
                Law::MaskPreserving,
            ])
            .with_trace("alpha", "1")
            .with_trace("kl_fused_base", "nats")
            .with_trace("kl_base_fused", "nats")
            .with_trace("kl_with_without", "nats");
        let neutral = match params.mode {
            Mode::Cad | Mode::IclExpert => Some(Law::identity_at("alpha=0")),
            Mode::Cfg => Some(Law::identity_at("gamma=1")),
            Mode::Adacad => None,
        };
        if params.plausibility.is_none() {
            info = info.with_laws(neutral);
        }
        info = match params.mode {
            Mode::Cad | Mode::Cfg => info.with_laws([Law::linear_in("anti")]),
            Mode::IclExpert => info.with_laws([Law::linear_in("expert"), Law::linear_in("anti")]),
            Mode::Adacad => info,
        };
        Ok(Self { params, strength, info })
    }

    /// A strategy with parameters from JSON, or from TOML turned into JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]; the message starts with the JSON pointer of the parameter that is wrong.
    pub fn from_json(params: &serde_json::Value) -> Result<Self> {
        Self::new(Params::from_json(params)?)
    }

    /// The parameters in use.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The rows of the base, and of what the difference is taken towards and away from.
    fn places(&self, session: &SessionInfo) -> Result<[usize; 3]> {
        let place = |role: &str| match session.rows_of(role).collect::<Vec<usize>>()[..] {
            [row] => Ok(row),
            ref rows => Err(Error::new(
                ErrorKind::Incompatible,
                format!("{role}: one source takes this role, not {}", rows.len()),
            )
            .with_help(match self.params.mode {
                Mode::IclExpert => "mode icl_expert fuses one base, one expert and one anti",
                _ => "modes cad, adacad and cfg fuse one base and one anti: one model, two prompts",
            })),
        };
        let base = place("base")?;
        let towards = if self.params.mode == Mode::IclExpert { place("expert")? } else { base };
        Ok([base, towards, place("anti")?])
    }
}

fn equation(mode: Mode) -> &'static str {
    match mode {
        Mode::Cad => "fused = (1 + alpha) · base − alpha · anti",
        Mode::Adacad => {
            "fused = (1 + alpha) · base − alpha · anti\n\
             alpha = max(floor, JSD), JSD = ½ KL(base‖mean) + ½ KL(anti‖mean), mean = ½ (base + anti)"
        }
        Mode::Cfg => "fused = anti + gamma · (base − anti)",
        Mode::IclExpert => "fused = base + alpha · (expert − anti)",
    }
}

fn roles(mode: Mode) -> Vec<RoleSpec> {
    let role = |name, summary| RoleSpec::one(name).with_summary(summary);
    let anti = |summary| role("anti", summary).with_alias("anti_expert");
    match mode {
        Mode::Cad | Mode::Adacad => {
            vec![role("base", "the prompt with the passage"), anti("the same prompt without the passage")]
        }
        Mode::Cfg => vec![role("base", "the prompt that is wanted"), anti("the negative or empty prompt")],
        Mode::IclExpert => vec![
            role("base", "the large model"),
            role("expert", "the small model, prompt with demonstrations"),
            anti("the small model, prompt without demonstrations"),
        ],
    }
}

impl FusionStrategy for InContext {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let [base, towards, away] = self.places(session)?;
        let plausibility = self.params.plausibility;
        Ok(Box::new(State { strength: self.strength, plausibility, base, towards, away }))
    }

    fn lower(&self, session: &SessionInfo) -> Result<FusionGraph> {
        let places = self.places(session)?;
        let mut graph = FusionGraph::new();
        let [base, towards, away] = places.map(|place| graph.row(place));
        let contrast = graph.contrast(towards, away);
        let strength = match self.strength {
            Strength::Fixed(strength) if self.params.mode == Mode::Cfg => {
                let gamma = graph.parameter("gamma", strength + 1.0);
                let one = graph.constant(1.0);
                graph.subtract(gamma, one)
            }
            Strength::Fixed(strength) => graph.parameter("alpha", strength),
            Strength::Divergence { floor } => {
                let floor = graph.parameter("floor", floor);
                let divergence = graph.jensen_shannon(towards, away);
                graph.max(divergence, floor)
            }
        };
        let fused = graph.linear_combination(base, None, &[(strength, contrast)]);
        let fused = graph.keep_plausible(base, self.params.plausibility, fused);
        graph.set_fused(fused);
        graph.add_trace("alpha", strength);
        graph.add_divergences(fused, base);
        Ok(graph)
    }
}

/// What one step does, with the rows' places looked up.
#[derive(Clone, Copy)]
struct State {
    strength: Strength,
    plausibility: Option<f64>,
    base: usize,
    towards: usize,
    away: usize,
}

impl Memoryless for State {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let [base, towards, away] = [self.base, self.towards, self.away].map(|row| step.row(row));
        let strength = match self.strength {
            Strength::Fixed(strength) => strength,
            Strength::Divergence { floor } => jensen_shannon(towards, away).max(floor),
        };
        linear_combination(base.logits(), 1.0, &[Contrast::between(strength, towards, away)], out.logits);
        if let Some(plausibility) = self.plausibility {
            mask_implausible(base.logits(), plausibility, out.logits);
        }

        if out.trace.is_empty() {
            return Ok(());
        }
        let fused_normaliser = log_sum_exp(out.logits);
        let (fused_base, base_fused) = kl_both(out.logits, fused_normaliser, base.logits(), base.log_normaliser);
        let with_without = kl_divergence(towards.logits(), towards.log_normaliser, away.logits(), away.log_normaliser);
        for (column, value) in out.trace.iter_mut().zip([strength, fused_base, base_fused, with_without]) {
            *column = value;
        }
        Ok(())
    }
}
