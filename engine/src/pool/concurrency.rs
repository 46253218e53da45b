use std::collections::BTreeMap;

/// Which sources run side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// All sources at once, each on its owner thread: right when each has its share of the cores.
    #[default]
    Parallel,
    /// One after another: right when each uses all cores.
    Sequential,
    /// Those of one group, by index, side by side, and the groups one after another: right when there are more sources
    /// than a fair share of the cores allows. Sources that no group names run after all groups, side by side.
    Waves(Vec<Vec<usize>>),
}

impl Concurrency {
    /// Groups of sources, one after another; each source is in one.
    pub(super) fn waves(&self, sources: usize) -> Vec<Vec<usize>> {
        let wave = |source: usize| match self {
            Self::Parallel => 0,
            Self::Sequential => source,
            Self::Waves(waves) => waves.iter().position(|wave| wave.contains(&source)).unwrap_or(waves.len()),
        };
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        (0..sources).for_each(|source| groups.entry(wave(source)).or_default().push(source));
        groups.into_values().collect()
    }
}
