use std::{collections::BTreeMap, sync::Arc};

use logitfuse_core::{
    Error, ErrorKind, FusionStrategy, LogitSource, PromptReading, Result, RoleBinding, SessionInfo, SharedVocabulary,
    SourceInfo, TokenId,
};

use crate::{
    Draft, Speculation, TokenReport,
    pace::Habit,
    prefixes::Prefixes,
    step::{Calls, Fuser},
    worker::Worker,
};

/// Which source plays which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The role's name, one of the strategy's.
    pub role: String,
    /// The source's index, in the order in which sources were added. Several roles may name one source: they share its
    /// session and run as rows of one batch.
    pub source: usize,
}

impl Role {
    /// `source` plays `role`.
    pub fn new(role: impl Into<String>, source: usize) -> Self {
        Self { role: role.into(), source }
    }
}

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
    fn waves(&self, sources: usize) -> Vec<Vec<usize>> {
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

/// Sources, a strategy that fuses them, and the loop that decodes.
///
/// See the [crate's page](crate) for an example.
pub struct Engine {
    pub(crate) workers: Vec<Worker>,
    /// The source of each binding of `session`.
    pub(crate) binding_sources: Vec<usize>,
    pub(crate) strategy: Arc<dyn FusionStrategy>,
    /// The binding that may settle a step alone.
    pub(crate) lead: Option<usize>,
    /// How much of every prompt the strategy is told.
    pub(crate) reading: PromptReading,
    pub(crate) session: SessionInfo,
    /// Sources that run side by side, group after group.
    pub(crate) waves: Vec<Vec<usize>>,
    pub(crate) speculation: Option<Speculation>,
    pub(crate) prefixes: Prefixes,
    pub(crate) end_of_sequence: Vec<TokenId>,
    pub(crate) fuser: Fuser,
    pub(crate) calls: Calls,
    /// Of a text and its draft, while sources are fed.
    pub(crate) text: Vec<TokenId>,
    /// What is told of a token.
    pub(crate) report: TokenReport,
    /// How often drafts stood, where what is drafted changes no token.
    pub(crate) habit: Option<Habit>,
}

/// Collects what an [`Engine`] is made of.
pub struct EngineBuilder {
    strategy: Arc<dyn FusionStrategy>,
    sources: Vec<Box<dyn LogitSource>>,
    roles: Vec<Role>,
    vocabulary: Option<SharedVocabulary>,
    end_of_sequence: Vec<TokenId>,
    concurrency: Concurrency,
    speculation: Option<Speculation>,
    prefix_cache_bytes: u64,
}

impl EngineBuilder {
    /// Adds a source; its index is the number of those added before.
    #[must_use]
    pub fn source(mut self, source: Box<dyn LogitSource>) -> Self {
        self.sources.push(source);
        self
    }

    /// Sets which source plays which role, in any order.
    #[must_use]
    pub fn roles(mut self, roles: impl IntoIterator<Item = Role>) -> Self {
        self.roles = roles.into_iter().collect();
        self
    }

    /// Sets the ids that may be emitted. Without it, all ids below the narrowest source's width.
    #[must_use]
    pub fn vocabulary(mut self, vocabulary: SharedVocabulary) -> Self {
        self.vocabulary = Some(vocabulary);
        self
    }

    /// Adds ids that end a text to those that the sources declare.
    #[must_use]
    pub fn end_of_sequence(mut self, ids: impl IntoIterator<Item = TokenId>) -> Self {
        self.end_of_sequence.extend(ids);
        self
    }

    /// Sets whether sources run side by side.
    #[must_use]
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets whether tokens are drafted. With drafts every source runs at every position: a strategy's leading role has
    /// nothing to settle.
    #[must_use]
    pub fn speculation(mut self, speculation: Option<Speculation>) -> Self {
        self.speculation = speculation;
        self
    }

    /// Sets how many bytes of key/value cache may be spent on beginnings that prompts share, over all sources; 0 keeps
    /// none. Without it 256 MB.
    #[must_use]
    pub fn prefix_cache_bytes(mut self, bytes: u64) -> Self {
        self.prefix_cache_bytes = bytes;
        self
    }

    /// Checks that roles, sources and strategy fit and starts the sources' threads.
    pub fn build(self) -> Result<Engine> {
        let info = self.strategy.info();
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let known = || info.roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
        for role in &self.roles {
            if role.source >= self.sources.len() {
                return wrong(format!(
                    "role `{}` names source {}, there are {}",
                    role.role,
                    role.source,
                    self.sources.len()
                ));
            }
            if !info.roles.iter().any(|r| r.name == role.role) {
                return wrong(format!("strategy `{}` has no role `{}`; it has {}", info.id, role.role, known()));
            }
        }
        let mut bindings = Vec::new();
        let mut binding_sources = Vec::new();
        for spec in &info.roles {
            let taken: Vec<&Role> = self.roles.iter().filter(|r| r.role == spec.name).collect();
            if taken.len() < spec.arity.min || spec.arity.max.is_some_and(|max| taken.len() > max) {
                let wanted = match (spec.arity.min, spec.arity.max) {
                    (min, Some(max)) if min == max => format!("exactly {min}"),
                    (min, Some(max)) => format!("{min} to {max}"),
                    (min, None) => format!("at least {min}"),
                };
                return wrong(format!(
                    "strategy `{}` wants {wanted} source(s) in role `{}`, got {}",
                    info.id,
                    spec.name,
                    taken.len()
                ));
            }
            for role in taken {
                let source = self.sources[role.source].info().name.clone();
                bindings.push(RoleBinding { role: spec.name.clone(), source });
                binding_sources.push(role.source);
            }
        }
        match self.speculation.as_ref().map(|speculation| speculation.draft) {
            Some(Draft::Binding(binding)) if binding >= bindings.len() => {
                return wrong(format!("binding {binding} cannot draft: there are {}", bindings.len()));
            }
            Some(Draft::Source(source)) if source >= self.sources.len() => {
                return wrong(format!("source {source} cannot draft: there are {}", self.sources.len()));
            }
            _ => {}
        }
        let lead = match &info.lead_role {
            None => None,
            Some(lead) => match bindings.iter().enumerate().filter(|(_, b)| b.role == *lead).collect::<Vec<_>>()[..] {
                [(binding, _)] => Some(binding),
                ref leads => {
                    return wrong(format!(
                        "strategy `{}` is led by role `{lead}`: one source, not {}",
                        info.id,
                        leads.len()
                    ));
                }
            },
        };
        let Some(narrowest) = self.sources.iter().map(|s| s.info().logit_width).min() else {
            return wrong("an engine needs a source".to_owned());
        };
        let vocabulary = self.vocabulary.unwrap_or_else(|| SharedVocabulary::new(narrowest, []));
        if vocabulary.width() > narrowest || vocabulary.count() == 0 {
            return wrong(format!(
                "the vocabulary has {} ids in a width of {}, the narrowest source yields {narrowest} logits",
                vocabulary.count(),
                vocabulary.width()
            ));
        }
        let mut end_of_sequence = self.end_of_sequence;
        end_of_sequence.extend(self.sources.iter().flat_map(|s| s.info().end_of_sequence.iter().copied()));
        end_of_sequence.sort_unstable();
        end_of_sequence.dedup();
        Ok(Engine {
            fuser: Fuser::new(&info.id, vocabulary.width(), info.trace.len()),
            calls: Calls::default(),
            text: Vec::new(),
            report: TokenReport::default(),
            habit: None,
            waves: self.concurrency.waves(self.sources.len()),
            lead,
            reading: info.prompt,
            prefixes: Prefixes::new(self.sources.len(), self.prefix_cache_bytes),
            workers: self
                .sources
                .into_iter()
                .map(|source| Worker::spawn(source, &vocabulary))
                .collect::<Result<_>>()?,
            binding_sources,
            session: SessionInfo { bindings, vocabulary },
            speculation: self.speculation,
            end_of_sequence,
            strategy: self.strategy,
        })
    }
}

impl Engine {
    /// Begins an engine with this strategy.
    pub fn builder(strategy: Arc<dyn FusionStrategy>) -> EngineBuilder {
        EngineBuilder {
            strategy,
            sources: Vec::new(),
            roles: Vec::new(),
            vocabulary: None,
            end_of_sequence: Vec::new(),
            concurrency: Concurrency::default(),
            speculation: None,
            prefix_cache_bytes: 256 << 20,
        }
    }

    /// What the strategy fuses: one binding per row, and the shared vocabulary.
    pub fn session(&self) -> &SessionInfo {
        &self.session
    }

    /// The strategy.
    pub fn strategy(&self) -> &dyn FusionStrategy {
        self.strategy.as_ref()
    }

    /// The sources, in the order in which they were added.
    pub fn sources(&self) -> impl Iterator<Item = &SourceInfo> {
        self.workers.iter().map(Worker::info)
    }

    /// The ids that end a text: those of all sources together.
    pub fn end_of_sequence(&self) -> &[TokenId] {
        &self.end_of_sequence
    }
}
