//! Group numeric: rows on which arithmetic tends to break. The host looks at every answer, so a case only has to ask.

use logitfuse_conformance::Case;
use logitfuse_core::{FusionStrategy, TokenId};

use crate::{
    Outcome,
    child::{Tried, unknown},
    propose::Dice,
    subject::{Arrangement, play, session},
};

pub(crate) const CASES: &[&str] =
    &["ordinary", "extremes", "denormals", "equal-masks", "own-masks", "one-possible", "constant", "wide"];

const WIDTHS: [usize; 7] = [1, 2, 3, 5, 64, 1023, 4097];

pub(crate) fn run(name: &str, (subject, strategy, arrangements): Tried<'_>) -> Outcome {
    let widths = if name == "wide" { &[262_144][..] } else { &WIDTHS };
    if !CASES.contains(&name) {
        return unknown(name);
    }
    let mut dice = Dice::new(subject.seed);
    for arrangement in arrangements {
        for &width in widths {
            let case = case(name, arrangement, width, &mut dice);
            if let Err(e) = play(strategy as &dyn FusionStrategy, &case) {
                return Outcome::Failed(format!("width {width}: {e}"));
            }
        }
    }
    Outcome::passed()
}

fn case(name: &str, arrangement: &Arrangement, width: usize, dice: &mut Dice) -> Case {
    let session = session(arrangement, width);
    let tokens: Vec<TokenId> = (0..3).map(|_| TokenId::try_from(dice.below(width)).unwrap_or(0)).collect();
    let mut steps = Vec::new();
    for &token in &tokens {
        let mask = masks(width, dice);
        let row = |index: usize, dice: &mut Dice| -> Vec<f32> {
            let own = masks(width, dice);
            let hidden = |id: usize| match name {
                "equal-masks" => mask[id],
                "own-masks" => own[id],
                "one-possible" => true,
                _ => false,
            };
            (0..width)
                .map(|id| {
                    let x = value(name, index, id, dice);
                    if hidden(id) && id != token as usize { f32::NEG_INFINITY } else { x }
                })
                .collect()
        };
        steps.push((0..session.bindings.len()).map(|index| row(index, dice)).collect());
    }
    Case { session, steps, tokens }
}

fn masks(width: usize, dice: &mut Dice) -> Vec<bool> {
    (0..width).map(|_| dice.below(3) == 0).collect()
}

fn value(name: &str, row: usize, id: usize, dice: &mut Dice) -> f32 {
    let sign = if dice.below(2) == 0 { 1.0 } else { -1.0 };
    match name {
        "extremes" => [1e30, -1e30, 0.0, 1e4][dice.below(4)],
        "denormals" => sign * f32::from_bits(1 + u32::try_from(dice.below(1 << 20)).unwrap_or(0)),
        "constant" => [0.0, 1.5, -40.0][row % 3],
        _ => sign * (dice.below(1 << 16) as f32) / 8192.0 - (id as f32 + 1.0).ln(),
    }
}
