//! Group numeric: rows on which arithmetic tends to break. The host looks at every answer, so a case only has to ask.

use logitfuse_conformance::Case;
use logitfuse_core::{FusionStrategy, TokenId};

use crate::{
    Outcome,
    context::{CaseContext, unknown},
    sample_params::SplitMix64,
    subject::{RoleCounts, play, session},
};

pub(crate) const CASES: &[&str] =
    &["ordinary", "extremes", "denormals", "equal-masks", "own-masks", "one-possible", "constant", "wide"];

const WIDTHS: [usize; 7] = [1, 2, 3, 5, 64, 1023, 4097];

pub(crate) fn run(name: &str, (subject, strategy, role_counts): CaseContext<'_>) -> Outcome {
    let widths = if name == "wide" { &[262_144][..] } else { &WIDTHS };
    if !CASES.contains(&name) {
        return unknown(name);
    }
    let mut rng = SplitMix64::new(subject.seed);
    for counts in role_counts {
        for &width in widths {
            let case = case(name, counts, width, &mut rng);
            if let Err(e) = play(strategy as &dyn FusionStrategy, &case) {
                return Outcome::Failed(format!("width {width}: {e}"));
            }
        }
    }
    Outcome::passed()
}

fn case(name: &str, counts: &RoleCounts, width: usize, rng: &mut SplitMix64) -> Case {
    let session = session(counts, width);
    let tokens: Vec<TokenId> = (0..3).map(|_| TokenId::try_from(rng.below(width)).unwrap_or(0)).collect();
    let mut steps = Vec::new();
    for &token in &tokens {
        let mask = masks(width, rng);
        let row = |index: usize, rng: &mut SplitMix64| -> Vec<f32> {
            let own = masks(width, rng);
            let hidden = |id: usize| match name {
                "equal-masks" => mask[id],
                "own-masks" => own[id],
                "one-possible" => true,
                _ => false,
            };
            (0..width)
                .map(|id| {
                    let x = value(name, index, id, rng);
                    if hidden(id) && id != token as usize { f32::NEG_INFINITY } else { x }
                })
                .collect()
        };
        steps.push((0..session.bindings.len()).map(|index| row(index, rng)).collect());
    }
    Case { session, steps, tokens }
}

fn masks(width: usize, rng: &mut SplitMix64) -> Vec<bool> {
    (0..width).map(|_| rng.below(3) == 0).collect()
}

fn value(name: &str, row: usize, id: usize, rng: &mut SplitMix64) -> f32 {
    let sign = if rng.below(2) == 0 { 1.0 } else { -1.0 };
    match name {
        "extremes" => [1e30, -1e30, 0.0, 1e4][rng.below(4)],
        "denormals" => sign * f32::from_bits(1 + u32::try_from(rng.below(1 << 20)).unwrap_or(0)),
        "constant" => [0.0, 1.5, -40.0][row % 3],
        _ => sign * (rng.below(1 << 16) as f32) / 8192.0 - (id as f32 + 1.0).ln(),
    }
}
