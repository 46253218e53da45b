//! How cores are shared between models.

/// Threads per model, and whether models run side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) threads: Vec<usize>,
    pub(crate) parallel: bool,
}

/// Shares `cores` (0: all there are) among models by the bytes of their weights, which is what a decoding step reads.
/// Each gets one thread at least: with more models than cores the system's scheduler shares them, which costs less than
/// waiting for one another.
pub(crate) fn threads(weights: &[u64], cores: usize) -> Plan {
    let cores = match cores {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        cores => cores,
    };
    if let [_] = weights {
        return Plan { threads: vec![cores], parallel: true };
    }
    let total: u128 = weights.iter().map(|&w| u128::from(w.max(1))).sum();
    let share = |&w: &u64| {
        let threads = (u128::from(w.max(1)) * cores as u128 + total / 2) / total.max(1);
        usize::try_from(threads).unwrap_or(cores).max(1)
    };
    Plan { threads: weights.iter().map(share).collect(), parallel: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_model_has_all_cores() {
        assert_eq!(threads(&[5], 8).threads, [8]);
    }

    #[test]
    fn a_large_base_has_most_and_nobody_has_none() {
        assert_eq!(threads(&[800, 100, 100], 8).threads, [6, 1, 1]);
        assert_eq!(threads(&[100, 100, 100], 2).threads, [1, 1, 1]);
        assert_eq!(threads(&[0, 0], 4).threads, [2, 2]);
    }
}
