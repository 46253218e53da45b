//! Whoever takes part has to find the threads that suit it first.

use logitfuse_core::Result;

use crate::{
    Bench,
    contest::{Contest, Contestant, Task},
    model::Threads,
    say,
};

/// Somebody who can decode, and with which threads.
pub(crate) struct Entrant {
    pub(crate) name: String,
    pub(crate) threads: Threads,
    pub(crate) decoder: Box<dyn Contestant>,
}

impl Entrant {
    pub(crate) fn new(name: impl Into<String>, threads: Threads, decoder: impl Contestant + 'static) -> Self {
        Self { name: name.into(), threads, decoder: Box::new(decoder) }
    }
}

/// The entrants, fastest first.
pub(crate) fn tuned(bench: &Bench, case: &str, mut entrants: Vec<Entrant>, task: &Task) -> Result<Vec<Entrant>> {
    let contest = Contest::hold(&mut contestants(&mut entrants), bench.effort.tuning_rounds, task)?;
    let times = contest.typical_ms();
    for (entrant, time) in entrants.iter().zip(&times) {
        say(&format!("{case}: {} with {}: {time:.2} ms/token", entrant.name, entrant.threads));
    }
    let mut order: Vec<(f64, Entrant)> = times.into_iter().zip(entrants).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(order.into_iter().map(|(_, entrant)| entrant).collect())
}

pub(crate) fn contestants(entrants: &mut [Entrant]) -> Vec<&mut dyn Contestant> {
    entrants.iter_mut().map(|entrant| &mut *entrant.decoder as &mut dyn Contestant).collect()
}
