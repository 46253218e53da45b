use crate::{Error, ErrorKind, Result, SessionInfo};

/// Which rows of a step play the roles of proxy tuning: one `base`, one or more `expert`, and one `anti` that serves all
/// experts or one for each in the same order.
///
/// ```
/// use logitfuse_core::{SharedVocabulary, ProxyRows, RoleBinding, SessionInfo};
///
/// let binding = |role: &str| RoleBinding { role: role.into(), source: "model".into() };
/// let session = SessionInfo::new(["base", "expert", "expert", "anti"].map(binding), SharedVocabulary::new(10, []));
/// let rows = ProxyRows::of(&session, "my-strategy")?;
/// assert_eq!((rows.base, rows.pairs), (0, vec![(1, 3), (2, 3)]));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyRows {
    /// The row of the large model.
    pub base: usize,
    /// The rows of each expert and of what it was before tuning.
    pub pairs: Vec<(usize, usize)>,
}

impl ProxyRows {
    /// Looks the roles up for a strategy, whose name goes into the message where they do not fit.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`], naming the role that is missing or taken too often.
    pub fn of(session: &SessionInfo, strategy: &str) -> Result<Self> {
        let misfit = |what: String| {
            let help = format!("{strategy} fuses one base, one or more experts, and one anti or as many as experts");
            Err(Error::new(ErrorKind::Incompatible, what).with_help(help))
        };
        let rows = |role| session.rows_of(role).collect::<Vec<usize>>();
        let (bases, experts, antis) = (rows("base"), rows("expert"), rows("anti"));
        let [base] = bases[..] else {
            return misfit(format!("base: one source takes this role, not {}", bases.len()));
        };
        if experts.is_empty() {
            return misfit("expert: no source takes this role".to_owned());
        }
        if antis.len() != 1 && antis.len() != experts.len() {
            return misfit(format!("anti: {} sources take this role beside {} experts", antis.len(), experts.len()));
        }
        Ok(Self { base, pairs: experts.into_iter().zip(antis.into_iter().cycle()).collect() })
    }
}
