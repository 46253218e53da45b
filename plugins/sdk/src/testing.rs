//! The laws that every strategy must obey, for `cargo test` of a plugin. Needs the feature `testing`.
//!
//! `logitfuse plugin check` tries harder, on the built library and in processes of their own; these tests are there while
//! you write, with a debugger at hand.

use logitfuse_conformance::{Case, Violation, generators, strategy_laws};
use logitfuse_core::{FusionStrategy, RoleBinding, RoleSpec, SessionInfo, SharedVocabulary};
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::metadata;

/// How many sources take a role that several may take, one shape after the other.
const COUNTS: [usize; 3] = [1, 2, 3];

/// Runs a strategy through `cases` generated texts in every shape that it accepts (one source, two and three for a role
/// that takes several), and holds it to the contract of core's traits and to the laws that it claims. `Err` says which law
/// broke, on which rows, smallest case first found.
///
/// Rows are generated with masks, ties, certainty and sizes up to 1e30; see `logitfuse_conformance::generators`.
///
/// ```
/// use logitfuse_plugin::numerics::{Contrast, linear_combination};
/// use logitfuse_plugin::{
///     FusedRow, FusionState, FusionStep, FusionStrategy, Law, Memoryless, Result, RoleSpec, SessionInfo, StrategyInfo,
///     testing,
/// };
///
/// struct Mean(StrategyInfo);
/// #[derive(Clone)]
/// struct MeanState;
///
/// impl FusionStrategy for Mean {
///     fn info(&self) -> &StrategyInfo {
///         &self.0
///     }
///     fn start(&self, _: &SessionInfo) -> Result<Box<dyn FusionState>> {
///         Ok(Box::new(MeanState))
///     }
/// }
///
/// impl Memoryless for MeanState {
///     fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
///         let (base, expert) = (step.row(0), step.row(1));
///         linear_combination(base.logits(), 1.0, &[Contrast::between(0.5, expert, base)], out.logits);
///         Ok(())
///     }
/// }
///
/// let info = StrategyInfo::new("mean", [RoleSpec::one("base"), RoleSpec::one("expert")]);
/// assert_eq!(testing::check_in_process(&Mean(info.clone().with_laws([Law::MaskPreserving])), 64), Ok(()));
///
/// // The mean changes which token is the most probable, and a claim to the contrary is found out.
/// let broken = testing::check_in_process(&Mean(info.with_laws([Law::ArgmaxInvariant])), 64).unwrap_err();
/// assert!(broken.contains("argmax-invariant"));
/// ```
pub fn check_in_process(strategy: &dyn FusionStrategy, cases: u32) -> Result<(), String> {
    let info = strategy.info();
    metadata::describe(info).map_err(|e| e.to_string())?;
    let mut shapes: Vec<Shape<'_>> = COUNTS.map(|count| shape(&info.roles, count)).into();
    shapes.dedup();
    let mut refusals = Vec::new();
    for shape in &shapes {
        if let Err(refusal) = Case::accepts(strategy, &session(shape)) {
            refusals.push(refusal.to_string());
            continue;
        }
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let checked = runner.run(&generators::case(shape), |case| Ok(check(strategy, &case)?));
        checked.map_err(|e| match e {
            TestError::Fail(reason, case) => format!("{reason}\nwith {}", summary(shape, &case)),
            TestError::Abort(reason) => reason.to_string(),
        })?;
    }
    if refusals.len() == shapes.len() { Err(format!("no session suits it: {}", refusals.join("; "))) } else { Ok(()) }
}

/// Roles, each with the number of its sources.
type Shape<'a> = Vec<(&'a str, usize)>;

fn session(shape: &Shape<'_>) -> SessionInfo {
    let bindings = shape.iter().flat_map(|&(role, count)| {
        (0..count).map(move |i| RoleBinding { role: role.to_owned(), source: format!("{role}-{i}") })
    });
    SessionInfo::new(bindings, SharedVocabulary::new(8, []))
}

/// A case that a person can read, or how large it is.
fn summary(shape: &Shape<'_>, case: &Case) -> String {
    let (positions, width) = (case.steps.len(), case.width());
    if width <= 8 {
        format!("rows of {shape:?}: {:?}, tokens {:?}", case.steps, case.tokens)
    } else {
        format!("{positions} positions of {width} ids, rows of {shape:?}")
    }
}

fn check(strategy: &dyn FusionStrategy, case: &Case) -> Result<(), Violation> {
    strategy_laws::calibration_is_repeatable(strategy, case)?;
    let failed = |e: logitfuse_core::Error| Violation { law: "calibration-is-repeatable", detail: e.to_string() };
    case.in_each_form(strategy, failed, |strategy| {
        strategy_laws::contract(strategy, case)?;
        strategy_laws::claimed(strategy, case)
    })
}

fn shape(roles: &[RoleSpec], count: usize) -> Shape<'_> {
    let fits = |role: &RoleSpec| count.clamp(role.arity.min, role.arity.max.unwrap_or(usize::MAX).max(role.arity.min));
    roles.iter().map(|role| (role.name.as_str(), fits(role))).collect()
}
