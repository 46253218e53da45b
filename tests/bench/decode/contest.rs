//! Who is measured, and the one way in which it is done: everybody works in turn, while all others rest.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use logitfuse_core::{Result, TokenId};

use crate::{machine::cpu_time, stats::median};

/// Before each turn: long enough for threads that spin after their work to give up and sleep.
const REST: Duration = Duration::from_millis(50);

/// Greedy decoding of `new_tokens` tokens.
pub(crate) struct Task {
    /// Given to the roles in turn.
    pub(crate) prompts: Vec<Vec<TokenId>>,
    pub(crate) new_tokens: usize,
}

/// What one turn took, in milliseconds.
pub(crate) struct Turn {
    /// The prompt and the first choice.
    pub(crate) first_ms: f64,
    /// Each further token: one pass over one token and the choice after it.
    pub(crate) token_ms: Vec<f64>,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) inside: Option<Inside>,
}

/// What only our own engine tells, of everything after the first token.
#[derive(Clone, Copy)]
pub(crate) struct Inside {
    /// One forward of the first source, median.
    pub(crate) forward_ms: f64,
    /// Share of the wall-clock time in which no source was in `forward`.
    pub(crate) outside_forward: f64,
    /// Time spent on normalising (all sources), fusing and sampling as a share of the wall-clock time.
    pub(crate) fusion: f64,
    /// One call of the strategy, mean.
    pub(crate) fuse_ms: f64,
}

impl Turn {
    /// Of one further token.
    pub(crate) fn median_ms(&self) -> f64 {
        median(self.token_ms.iter().copied())
    }

    /// The same where tokens come several at a time.
    pub(crate) fn mean_ms(&self) -> f64 {
        self.token_ms.iter().sum::<f64>() / self.token_ms.len() as f64
    }
}

pub(crate) trait Contestant {
    fn turn(&mut self, task: &Task) -> Result<Turn>;

    /// The process that does the work.
    fn process(&self) -> u32;
}

/// All turns, and how idle the resting processes were.
pub(crate) struct Contest {
    /// By contestant, then by round.
    pub(crate) turns: Vec<Vec<Turn>>,
    /// The largest share of a core that another process of the contest used during somebody's turn.
    pub(crate) disturbance: Option<f64>,
}

impl Contest {
    /// A turn each to warm up, then `rounds` rounds.
    pub(crate) fn hold(contestants: &mut [&mut dyn Contestant], rounds: usize, task: &Task) -> Result<Self> {
        let mut turns: Vec<Vec<Turn>> = contestants.iter().map(|_| Vec::new()).collect();
        let mut disturbance = None;
        let processes: Vec<u32> = contestants.iter().map(|c| c.process()).collect();
        for round in 0..=rounds {
            for (contestant, turns) in contestants.iter_mut().zip(&mut turns) {
                sleep(REST);
                let resting: Vec<u32> = processes.iter().copied().filter(|&p| p != contestant.process()).collect();
                let (start, before) = (Instant::now(), used(&resting));
                let turn = contestant.turn(task)?;
                if round > 0 {
                    let share = (used(&resting) - before) / start.elapsed().as_secs_f64();
                    disturbance = (!resting.is_empty()).then(|| disturbance.map_or(share, |d: f64| d.max(share)));
                    turns.push(turn);
                }
            }
        }
        Ok(Self { turns, disturbance })
    }

    /// The median token time of each round.
    pub(crate) fn rounds_ms(&self, contestant: usize) -> Vec<f64> {
        self.turns[contestant].iter().map(Turn::median_ms).collect()
    }

    /// The mean token time of each round.
    pub(crate) fn means_ms(&self, contestant: usize) -> Vec<f64> {
        self.turns[contestant].iter().map(Turn::mean_ms).collect()
    }

    /// The median of all rounds' means by contestant: fair also to whoever yields several tokens at once.
    pub(crate) fn typical_ms(&self) -> Vec<f64> {
        (0..self.turns.len()).map(|i| median(self.means_ms(i))).collect()
    }
}

/// Seconds of processor time.
fn used(processes: &[u32]) -> f64 {
    processes.iter().filter_map(|&pid| cpu_time(pid)).map(|t| t.as_secs_f64()).sum()
}
