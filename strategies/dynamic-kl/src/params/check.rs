//! Checks of parameters: ranges, and combinations that are allowed.

use std::fmt::Display;

use logitfuse_core::{
    Error, Result,
    params::{self, invalid},
};

use super::{Experts, Goal, Params, Solver, Weights};

/// Strengths are of the order of 1, and a solver that is to look further looks less closely.
pub(super) const MOST_STRENGTH: f64 = 100.0;
/// More strengths than this are a mistyped step, and would take seconds a token.
const MOST_GRID_POINTS: f64 = 1000.0;
/// What a sum of weights may miss 1 by: decimal fractions such as thirds.
const WEIGHT_TOLERANCE: f64 = 1e-6;

impl Params {
    pub(crate) fn check(&self) -> Result<()> {
        self.check_strength()?;
        self.check_budget()?;
        self.check_experts()?;
        self.check_weights()
    }

    fn check_strength(&self) -> Result<()> {
        const BOUNDS: &str = "give [low, high] with 0 <= low < high <= 100, such as [0.0, 1.0], or \"paper\"";
        let [low, high] = self.bounds;
        params::not_negative("/bounds/0", low).map_err(help(BOUNDS))?;
        params::not_negative("/bounds/1", high).map_err(help(BOUNDS))?;
        if low >= high {
            return Err(invalid("/bounds", format_args!("{low} is not below {high}")).with_help(BOUNDS));
        }
        if high > MOST_STRENGTH {
            return Err(
                invalid("/bounds/1", format_args!("must be at most {MOST_STRENGTH}, not {high}")).with_help(BOUNDS)
            );
        }
        only_with("/grid_step", self.grid_step.is_some(), self.solver == Solver::Grid, "solver grid")?;
        if let Some(step) = self.grid_step {
            let range = format!("give a step between {} and {}", (high - low) / MOST_GRID_POINTS, high - low);
            params::positive("/grid_step", step).map_err(help(&range))?;
            if step > high - low || (high - low) / step > MOST_GRID_POINTS {
                let what = format_args!("{step} does not cut [{low}, {high}] into 1 to {MOST_GRID_POINTS} parts");
                return Err(invalid("/grid_step", what).with_help(range));
            }
        }
        params::positive("/kl_temperature", self.kl_temperature).map_err(help("above 0; 1 is the models' own"))?;
        if !(0.0..1.0).contains(&self.ema) {
            return Err(invalid("/ema", format_args!("must be 0 or more and below 1, not {}", self.ema))
                .with_help("0 switches smoothing off, 0.9 averages over about ten tokens"));
        }
        Ok(())
    }

    #[expect(clippy::float_cmp, reason = "1 is the one temperature at which a budget is that of the fused row")]
    fn check_budget(&self) -> Result<()> {
        const NATS: &str = "give nats, 0 or more: 0 is the base alone, 0.5 a moderate budget for a token";
        let budget = self.objective == Goal::Budget;
        only_with("/budget_nats", self.budget_nats.is_some(), budget, "objective budget")?;
        only_with("/sequence_budget_nats", self.sequence_budget_nats.is_some(), budget, "objective budget")?;
        if let Some(nats) = self.budget_nats {
            params::not_negative("/budget_nats", nats).map_err(help(NATS))?;
        }
        if let Some(nats) = self.sequence_budget_nats {
            params::not_negative("/sequence_budget_nats", nats).map_err(help(NATS))?;
        }
        if budget && self.solver == Solver::Grid {
            return Err(refused("/solver", "grid", "objective budget", "use solver exact"));
        }
        if budget && self.bounds[0] > 0.0 {
            return Err(invalid("/bounds/0", format_args!("must be 0 with objective budget, not {}", self.bounds[0]))
                .with_help("a budget may allow nothing at all"));
        }
        if budget && self.kl_temperature != 1.0 {
            let what = format_args!("must be 1 with objective budget, not {}", self.kl_temperature);
            return Err(invalid("/kl_temperature", what)
                .with_help("a budget is kept at the temperature of the fused row, which is 1"));
        }
        Ok(())
    }

    #[expect(clippy::float_cmp, reason = "only these values switch a feature off")]
    fn check_experts(&self) -> Result<()> {
        let (pooled, objective) = (self.experts == Experts::Pool, self.objective);
        only_with("/pool", self.pool.is_some(), pooled, "experts pool")?;
        only_with("/weights", self.weights.is_some(), pooled, "experts pool")?;
        if self.experts == Experts::OneExpert && matches!(objective, Goal::Budget | Goal::VarianceRatio) {
            let name = if objective == Goal::Budget { "budget" } else { "variance_ratio" };
            return Err(refused("/objective", name, "experts one_expert", "it has no loss to choose an expert by"));
        }
        if self.experts == Experts::JointMinnorm {
            if objective != Goal::BothDivergences {
                return Err(invalid("/objective", "must be paper with experts joint_minnorm")
                    .with_help("use experts pool for other objectives"));
            }
            if self.solver == Solver::Grid {
                return Err(refused("/solver", "grid", "experts joint_minnorm", "use solver exact"));
            }
            if self.kl_temperature != 1.0 {
                return Err(invalid("/kl_temperature", "must be 1 with experts joint_minnorm")
                    .with_help("use experts pool for other temperatures"));
            }
            if self.ema != 0.0 {
                return Err(invalid("/ema", "must be 0 with experts joint_minnorm, which has many strengths")
                    .with_help("use experts pool to smooth one strength"));
            }
        }
        Ok(())
    }

    fn check_weights(&self) -> Result<()> {
        const RANGE: &str = "weights are 0 or more and add up to 1";
        let pooled = self.experts == Experts::Pool;
        let weights = self.weights(false);
        let by_evidence = pooled && matches!(weights, Weights::Posterior | Weights::Top1);
        let by_prompt = pooled && weights == Weights::Fingerprint;
        let (fixed, entropy) = (weights == Weights::Fixed, weights == Weights::Entropy);
        only_with("/posterior", self.posterior.is_some(), by_evidence, "experts pool and weights posterior or top1")?;
        only_with("/fingerprint", self.fingerprint.is_some(), by_prompt, "experts pool and weights fingerprint")?;
        only_with("/fixed_weights", self.fixed_weights.is_some(), fixed, "weights fixed")?;
        only_with("/entropy_temperature", self.entropy_temperature.is_some(), entropy, "weights entropy")?;
        if let Some(posterior) = &self.posterior {
            params::not_negative("/posterior/eta", posterior.eta).map_err(help("1 counts evidence as it is"))?;
            params::fraction("/posterior/gamma", posterior.gamma).map_err(help("1 forgets nothing"))?;
            if !(0.0..1.0).contains(&posterior.no_expert_prior) {
                let what = format_args!("must be 0 or more and below 1, not {}", posterior.no_expert_prior);
                return Err(invalid("/posterior/no_expert_prior", what).with_help("0 switches the possibility off"));
            }
        }
        if let Some(fingerprint) = &self.fingerprint {
            if fingerprint.prompts < 2 {
                let what = format_args!("must be 2 or more, not {}", fingerprint.prompts);
                return Err(invalid("/fingerprint/prompts", what).with_help("16 do well"));
            }
            params::not_negative("/fingerprint/slack", fingerprint.slack).map_err(help("3 does well"))?;
        }
        if let Some(temperature) = self.entropy_temperature {
            params::positive("/entropy_temperature", temperature).map_err(help("in nats; 1 is usual"))?;
        }
        let Some(weights) = &self.fixed_weights else {
            let missing = invalid("/fixed_weights", "missing").with_help("weights fixed needs one weight per expert");
            return if fixed { Err(missing) } else { Ok(()) };
        };
        for (index, &weight) in weights.iter().enumerate() {
            params::not_negative(&format!("/fixed_weights/{index}"), weight).map_err(help(RANGE))?;
        }
        let sum: f64 = weights.iter().sum();
        if (sum - 1.0).abs() > WEIGHT_TOLERANCE {
            return Err(invalid("/fixed_weights", format_args!("add up to {sum}, not 1")).with_help(RANGE));
        }
        Ok(())
    }
}

fn help(what: &str) -> impl Fn(Error) -> Error {
    move |error| error.with_help(what)
}

/// Refuses a parameter that the others switch off, since it would have no effect.
fn only_with(pointer: &str, given: bool, allowed: bool, what: impl Display) -> Result<()> {
    if !given || allowed {
        return Ok(());
    }
    Err(invalid(pointer, format_args!("means something with {what} only"))
        .with_help(format!("leave it out, or choose {what}")))
}

fn refused(pointer: &str, value: &str, beside: &str, help: &str) -> Error {
    invalid(pointer, format_args!("{value} does not go with {beside}")).with_help(help)
}
