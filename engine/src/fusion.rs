use std::{fmt, sync::Arc};

use logitfuse_core::{
    Error, ErrorKind, FusionStrategy, PromptReading, Result, RoleBinding, SessionInfo, StrategyInfo, TokenId,
};

use crate::{Draft, SourcePool, Speculation};

/// Which source plays which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The role's name, one of the strategy's.
    pub role: String,
    /// The source's index in its pool. Several roles may name one source: they share its session and run as rows of one
    /// batch.
    pub source: usize,
}

impl Role {
    /// `source` plays `role`.
    pub fn new(role: impl Into<String>, source: usize) -> Self {
        Self { role: role.into(), source }
    }
}

/// A strategy with the sources that play its roles, checked to fit: what a request decodes with.
///
/// Many fusions may share a pool, and sequences of different fusions decode in one batch: the same base alone, with one
/// expert, with another. A fusion is immutable and cheap to clone.
///
/// ```
/// use std::sync::Arc;
/// use logitfuse_engine::{BaseOnly, Decoder, Fusion, Request, Role, SourcePool};
/// use logitfuse_replay::SyntheticSource;
/// use logitfuse_static_proxy::{Params, StaticProxy};
///
/// let source = |seed| Box::new(SyntheticSource::new(&format!("model {seed}"), 64, seed));
/// let pool = SourcePool::builder().source(source(1)).source(source(2)).source(source(3)).build()?;
/// let alone = Fusion::new(&pool, Arc::new(BaseOnly::new()), [Role::new("base", 0)])?;
/// let proxy = Arc::new(StaticProxy::new(Params { alpha: 1.0, ..Params::default() })?);
/// let steered = Fusion::new(&pool, proxy, [Role::new("base", 0), Role::new("expert", 1), Role::new("anti", 2)])?;
///
/// let requests = [
///     Request::new([vec![5, 6]]).fusion(&alone).max_new_tokens(8),
///     Request::new(vec![vec![5, 6]; 3]).fusion(&steered).max_new_tokens(8),
/// ];
/// let mut decoder = Decoder::new(&alone);
/// let done = decoder.generate(&requests, &Default::default(), &mut |_| std::ops::ControlFlow::Continue(()))?;
/// assert_eq!(done.len(), 2);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Fusion {
    bound: Arc<Bound>,
    speculation: Option<Arc<Speculation>>,
    /// Whether drafts may change what is generated.
    uneven: bool,
}

struct Bound {
    pool: SourcePool,
    strategy: Arc<dyn FusionStrategy>,
    session: SessionInfo,
    /// The source of each binding of `session`.
    sources: Vec<usize>,
    /// The binding whose row alone may decide a step.
    lead: Option<usize>,
    end_of_sequence: Vec<TokenId>,
}

impl Fusion {
    /// Binds a strategy's roles to sources of a pool, in any order.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if a role is unknown, missing or taken too often, or names a source that is not there.
    pub fn new(
        pool: &SourcePool,
        strategy: Arc<dyn FusionStrategy>,
        roles: impl IntoIterator<Item = Role>,
    ) -> Result<Self> {
        Self::with_end_of_sequence(pool, strategy, roles, [])
    }

    /// As [`new`](Self::new), with ids that end a text besides those that the bound sources declare.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_end_of_sequence(
        pool: &SourcePool,
        strategy: Arc<dyn FusionStrategy>,
        roles: impl IntoIterator<Item = Role>,
        ids: impl IntoIterator<Item = TokenId>,
    ) -> Result<Self> {
        let roles: Vec<Role> = roles.into_iter().collect();
        let (bindings, sources) = bind(pool, strategy.info(), &roles)?;
        let lead = lead_binding(strategy.info(), &bindings)?;
        let declared = sources.iter().flat_map(|&source| pool.info(source).end_of_sequence.iter().copied());
        let mut end_of_sequence: Vec<TokenId> = ids.into_iter().chain(declared).collect();
        end_of_sequence.sort_unstable();
        end_of_sequence.dedup();
        let session = SessionInfo::new(bindings, pool.vocabulary().clone());
        let bound = Bound { pool: pool.clone(), strategy, session, sources, lead, end_of_sequence };
        Ok(Self { bound: Arc::new(bound), speculation: None, uneven: false })
    }

    /// The same fusion, drafting or not. With drafts every source runs at every position: a strategy's lead role has
    /// nothing to decide.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the drafter is no binding or source.
    pub fn with_speculation(&self, speculation: Option<Speculation>) -> Result<Self> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        let (bindings, sources) = (self.bound.sources.len(), self.bound.pool.len());
        match speculation.as_ref().map(|speculation| speculation.draft) {
            Some(Draft::Binding(binding)) if binding >= bindings => {
                wrong(format!("binding {binding} cannot draft: there are {bindings}"))
            }
            Some(Draft::Source(source)) if source >= sources => {
                wrong(format!("source {source} cannot draft: there are {sources}"))
            }
            _ => Ok(Self { speculation: speculation.map(Arc::new), ..self.clone() }),
        }
    }

    /// The same fusion, known to have a source whose rows depend on whether tokens are fed one by one or several at once: its
    /// drafts may change a text, which says so in [`Generation::inexact_drafts`](crate::Generation::inexact_drafts).
    #[must_use]
    pub fn with_uneven_rows(&self, uneven: bool) -> Self {
        Self { uneven, ..self.clone() }
    }

    /// Whether drafts may have changed what is generated.
    pub(crate) fn has_inexact_drafts(&self) -> bool {
        self.uneven && self.speculation.is_some()
    }

    /// The same fusion with another strategy of the same roles, such as one that was fitted to its sources.
    pub(crate) fn with_strategy(&self, strategy: Arc<dyn FusionStrategy>) -> Result<Self> {
        let (before, after) = (self.strategy().info(), strategy.info());
        if before.roles != after.roles || before.lead_role != after.lead_role {
            let what = format!("strategy `{}` has other roles once it is calibrated", before.id);
            return Err(Error::new(ErrorKind::Internal, what).with_help("this is a fault of the strategy"));
        }
        let Bound { pool, session, sources, lead, end_of_sequence, .. } = &*self.bound;
        let bound = Bound {
            pool: pool.clone(),
            strategy,
            session: session.clone(),
            sources: sources.clone(),
            lead: *lead,
            end_of_sequence: end_of_sequence.clone(),
        };
        Ok(Self { bound: Arc::new(bound), ..self.clone() })
    }

    /// The pool that its sources are in.
    pub fn pool(&self) -> &SourcePool {
        &self.bound.pool
    }

    /// The strategy.
    pub fn strategy(&self) -> &Arc<dyn FusionStrategy> {
        &self.bound.strategy
    }

    /// What the strategy fuses: one binding per row, and the shared vocabulary.
    pub fn session(&self) -> &SessionInfo {
        &self.bound.session
    }

    /// The ids that end a text: those of all bound sources together, sorted.
    pub fn end_of_sequence(&self) -> &[TokenId] {
        &self.bound.end_of_sequence
    }

    /// Whether and how tokens are drafted.
    pub fn speculation(&self) -> Option<&Speculation> {
        self.speculation.as_deref()
    }

    /// The source of each binding, by its index in the pool.
    pub fn binding_sources(&self) -> &[usize] {
        &self.bound.sources
    }

    pub(crate) fn shared_speculation(&self) -> Option<Arc<Speculation>> {
        self.speculation.clone()
    }

    pub(crate) fn lead(&self) -> Option<usize> {
        self.bound.lead
    }

    /// How much of every prompt the strategy is told.
    pub(crate) fn reading(&self) -> PromptReading {
        self.bound.strategy.info().prompt
    }

    /// Where the fusion lives: equal for clones alone.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.bound) as usize
    }
}

impl fmt::Debug for Fusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fusion")
            .field("strategy", &self.bound.strategy.info().id)
            .field("bindings", &self.bound.session.bindings)
            .field("speculation", &self.speculation)
            .field("uneven", &self.uneven)
            .finish()
    }
}

/// The bindings of a strategy's roles and the source of each: grouped by role, in the order of the strategy's roles.
fn bind(pool: &SourcePool, info: &StrategyInfo, roles: &[Role]) -> Result<(Vec<RoleBinding>, Vec<usize>)> {
    let wrong = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
    let known = || info.roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
    for role in roles {
        if role.source >= pool.len() {
            return wrong(format!("role `{}` names source {}, there are {}", role.role, role.source, pool.len()));
        }
        if info.role(&role.role).is_none() {
            return wrong(format!("strategy `{}` has no role `{}`; it has {}", info.id, role.role, known()));
        }
    }
    let (mut bindings, mut sources) = (Vec::new(), Vec::new());
    for spec in &info.roles {
        let taken: Vec<&Role> = roles.iter().filter(|r| info.role(&r.role) == Some(spec)).collect();
        if taken.len() < spec.arity.min || spec.arity.max.is_some_and(|max| taken.len() > max) {
            let wanted = match (spec.arity.min, spec.arity.max) {
                (min, Some(max)) if min == max => format!("exactly {min}"),
                (min, Some(max)) => format!("{min} to {max}"),
                (min, None) => format!("at least {min}"),
            };
            let (id, role, count) = (&info.id, &spec.name, taken.len());
            return wrong(format!("strategy `{id}` wants {wanted} source(s) in role `{role}`, got {count}"));
        }
        for role in taken {
            bindings.push(RoleBinding { role: spec.name.clone(), source: pool.info(role.source).name.clone() });
            sources.push(role.source);
        }
    }
    Ok((bindings, sources))
}

/// The binding of the strategy's lead role.
fn lead_binding(info: &StrategyInfo, bindings: &[RoleBinding]) -> Result<Option<usize>> {
    let Some(role) = &info.lead_role else { return Ok(None) };
    let mut leads = bindings.iter().enumerate().filter(|(_, b)| b.role == *role).map(|(binding, _)| binding);
    match (leads.next(), leads.count()) {
        (Some(binding), 0) => Ok(Some(binding)),
        (first, more) => {
            let count = usize::from(first.is_some()) + more;
            let what = format!("strategy `{}`: its lead role `{role}` is one source, not {count}", info.id);
            Err(Error::new(ErrorKind::InvalidConfig, what))
        }
    }
}
