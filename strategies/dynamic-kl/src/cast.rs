use logitfuse_core::{Error, ErrorKind, FusionStep, Result, RoleRow, SessionInfo, TokenId};

/// Which row of a step plays which role.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    base: usize,
    pairs: Vec<Pair>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    expert: usize,
    anti: usize,
}

impl Cast {
    pub(crate) fn new(session: &SessionInfo) -> Result<Self> {
        let rows = |role| session.rows_of(role).collect::<Vec<usize>>();
        let (bases, experts, antis) = (rows("base"), rows("expert"), rows("anti"));
        let [base] = bases[..] else {
            return Err(misfit(format!("base: one source takes this role, not {}", bases.len())));
        };
        if experts.is_empty() {
            return Err(misfit("expert: no source takes this role".to_owned()));
        }
        if antis.len() != 1 && antis.len() != experts.len() {
            let what = format!("anti: {} sources take this role beside {} experts", antis.len(), experts.len());
            return Err(misfit(what));
        }
        let pairs = experts.into_iter().zip(antis.iter().cycle()).map(|(expert, &anti)| Pair { expert, anti });
        Ok(Self { base, pairs: pairs.collect() })
    }

    pub(crate) fn experts(&self) -> usize {
        self.pairs.len()
    }
}

fn misfit(what: String) -> Error {
    Error::new(ErrorKind::Incompatible, what)
        .with_help("dynamic-kl fuses one base, one or more experts, and one anti or as many as experts")
}

/// The rows of one position by role: what a [`Selector`](crate::Selector) judges.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    step: &'a FusionStep<'a>,
    cast: &'a Cast,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(step: &'a FusionStep<'a>, cast: &'a Cast) -> Self {
        Self { step, cast }
    }

    /// The large model's row.
    pub fn base(&self) -> &'a RoleRow<'a> {
        &self.step.rows()[self.cast.base]
    }

    /// How many experts there are.
    pub fn experts(&self) -> usize {
        self.cast.experts()
    }

    /// The row of one expert.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn expert(&self, index: usize) -> &'a RoleRow<'a> {
        &self.step.rows()[self.cast.pairs[index].expert]
    }

    /// The row of what that expert was before tuning.
    ///
    /// # Panics
    /// If there are not as many experts.
    pub fn anti(&self, index: usize) -> &'a RoleRow<'a> {
        &self.step.rows()[self.cast.pairs[index].anti]
    }

    /// Whether one source is the anti of every expert.
    pub fn shares_anti(&self) -> bool {
        self.cast.pairs.iter().all(|pair| pair.anti == self.cast.pairs[0].anti)
    }

    /// By how many nats the expert predicted the tokens generated so far better than its anti did, prompt excluded.
    /// Infinite where one of the two held a token for impossible, 0 where both did.
    pub fn evidence(&self, index: usize) -> f64 {
        let difference = self.expert(index).sequence_log_prob - self.anti(index).sequence_log_prob;
        if difference.is_nan() { 0.0 } else { difference }
    }

    /// The tokens generated so far, prompt excluded.
    pub fn committed(&self) -> &'a [TokenId] {
        self.step.committed
    }
}
