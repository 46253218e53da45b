//! How cores are shared between models.

use logitfuse_engine::Concurrency;

/// Threads per model, and which models run side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadPlan {
    /// Threads of each model.
    pub threads: Vec<usize>,
    /// Models that run side by side, group after group.
    pub waves: Vec<Vec<usize>>,
}

impl ThreadPlan {
    /// Shares `cores` (0: all there are) among models, given the bytes of their weights, which is what a decoding step
    /// reads: of all ways to group them into waves, the one that is expected to end first.
    ///
    /// ```
    /// use logitfuse_pipeline::ThreadPlan;
    ///
    /// // Two small models beside each other, then the large one with both cores.
    /// assert_eq!(ThreadPlan::new(&[800, 100, 100], 2).waves, [vec![0], vec![1, 2]]);
    /// assert_eq!(ThreadPlan::new(&[800, 100, 100], 2).threads, [2, 1, 1]);
    /// ```
    pub fn new(weights: &[u64], cores: usize) -> Self {
        let cores = match cores {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            cores => cores,
        };
        // Beyond this many models there are too many groupings to try; those of like size then go together.
        let waves = if weights.len() <= 7 { groupings(weights.len()) } else { vec![by_size(weights, cores)] };
        let plans = waves.into_iter().filter(|waves| waves.iter().all(|wave| wave.len() <= cores.max(1)));
        let timed = plans.map(|waves| Self::timed(weights, cores, waves));
        // Of equals the first, which has fewer waves.
        timed.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, plan)| plan).unwrap_or_default()
    }

    /// The same threads, with every model by itself.
    pub(crate) fn in_turn(&self) -> Self {
        Self {
            threads: self.threads.clone(),
            waves: self.waves.concat().into_iter().map(|model| vec![model]).collect(),
        }
    }

    /// What an engine is told.
    pub fn concurrency(&self) -> Concurrency {
        Concurrency::Waves(self.waves.clone())
    }

    /// Threads for these waves, and the time that all of them take.
    fn timed(weights: &[u64], cores: usize, waves: Vec<Vec<usize>>) -> (f64, Self) {
        let mut threads = vec![1; weights.len()];
        let mut total = 0.0;
        for wave in &waves {
            let time = |model: usize, threads: &[usize]| weights[model].max(1) as f64 / speed_up(threads[model]);
            let slowest =
                |threads: &[usize]| wave.iter().copied().max_by(|&a, &b| time(a, threads).total_cmp(&time(b, threads)));
            for _ in wave.len()..cores {
                if let Some(model) = slowest(&threads) {
                    threads[model] += 1;
                }
            }
            total += slowest(&threads).map_or(0.0, |model| time(model, &threads));
        }
        (total, Self { threads, waves })
    }
}

/// How many times faster than one thread a model's step is: Amdahl's law with a tenth of a step that does not divide. A
/// guess until the machine is asked; two threads gave 1.7 to 1.9 where it was tried, and memory's bandwidth ends it.
fn speed_up(threads: usize) -> f64 {
    threads as f64 / (1.0 + 0.1 * (threads as f64 - 1.0))
}

/// All ways to put models into groups, those with fewer groups first.
fn groupings(models: usize) -> Vec<Vec<Vec<usize>>> {
    let mut all: Vec<Vec<Vec<usize>>> = vec![Vec::new()];
    for model in 0..models {
        let mut longer = Vec::new();
        for groups in all {
            for group in 0..groups.len() {
                let mut with = groups.clone();
                with[group].push(model);
                longer.push(with);
            }
            let mut with = groups;
            with.push(vec![model]);
            longer.push(with);
        }
        all = longer;
    }
    all.sort_by_key(Vec::len);
    all
}

fn by_size(weights: &[u64], cores: usize) -> Vec<Vec<usize>> {
    let mut models: Vec<usize> = (0..weights.len()).collect();
    models.sort_by_key(|&model| std::cmp::Reverse(weights[model]));
    models.chunks(cores.max(1)).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_model_has_all_cores() {
        assert_eq!(ThreadPlan::new(&[5], 8), ThreadPlan { threads: vec![8], waves: vec![vec![0]] });
    }

    #[test]
    fn equals_that_outnumber_the_cores_take_turns() {
        assert_eq!(
            ThreadPlan::new(&[100, 100, 100], 2),
            ThreadPlan { threads: vec![1, 1, 2], waves: vec![vec![0, 1], vec![2]] }
        );
        assert_eq!(ThreadPlan::new(&[100, 100, 100], 1).waves.len(), 3);
        assert_eq!(ThreadPlan::new(&[0, 0], 4), ThreadPlan { threads: vec![2, 2], waves: vec![vec![0, 1]] });
    }

    #[test]
    fn with_many_cores_all_run_at_once_and_the_large_one_has_most() {
        let plan = ThreadPlan::new(&[700, 100, 100], 16);
        assert_eq!(plan.waves, [[0, 1, 2]]);
        assert!(plan.threads[0] > 9 && plan.threads.iter().sum::<usize>() == 16, "{plan:?}");
    }

    #[test]
    fn every_model_is_in_one_wave() {
        for models in 0..12 {
            let plan = ThreadPlan::new(&vec![3; models], 2);
            let mut seen: Vec<usize> = plan.waves.concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..models).collect::<Vec<_>>());
            assert_eq!(plan.threads.len(), models);
        }
    }
}
