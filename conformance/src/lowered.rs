//! Computing a [`FusionGraph`], as the runtimes that serve exported fusions do.

use logitfuse_core::FusionGraph;
use logitfuse_core::fusion_graph::{Binary, Comparison, Operation, Reduction, Repeat, Unary};

/// What a graph computes at one position.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluated {
    /// The fused row.
    pub fused: Vec<f32>,
    /// The trace, in the graph's order.
    pub trace: Vec<f32>,
}

/// Computes a graph from the rows of one position, in the order of the bindings, in f32 like a runtime; only sums are f64. The
/// parameters are those of [`FusionGraph::parameters`].
///
/// ```
/// use logitfuse_conformance::lowered::evaluate;
/// use logitfuse_core::FusionGraph;
///
/// let mut graph = FusionGraph::new();
/// let (row, scale) = (graph.row(0), graph.parameter("scale", 1.0));
/// let fused = graph.multiply(scale, row);
/// graph.set_fused(fused);
/// assert_eq!(evaluate(&graph, &[&[1.0, 2.0]], &[3.0]).fused, [3.0, 6.0]);
/// ```
///
/// # Panics
/// On a row or a parameter too few, which is the caller's mistake.
pub fn evaluate(graph: &FusionGraph, rows: &[&[f32]], parameters: &[f32]) -> Evaluated {
    let width = rows[0].len();
    let mut evaluation = Evaluation { graph, rows, parameters, values: vec![Vec::new(); graph.operations().len()] };
    evaluation.range(0..graph.operations().len());
    let values = evaluation.values;
    let mut fused = values[graph.fused().index()].clone();
    if fused.len() == 1 {
        fused = vec![fused[0]; width];
    }
    let trace = graph.trace().iter().map(|(_, value)| values[value.index()][0]).collect();
    Evaluated { fused, trace }
}

struct Evaluation<'a> {
    graph: &'a FusionGraph,
    rows: &'a [&'a [f32]],
    parameters: &'a [f32],
    /// Rows, and single numbers as rows of one; truth values are 1 and 0. Those of a body are its last round's.
    values: Vec<Vec<f32>>,
}

impl Evaluation<'_> {
    fn range(&mut self, range: std::ops::Range<usize>) {
        for at in self.graph.outside_of_bodies(range) {
            self.operation(at);
        }
    }

    fn operation(&mut self, at: usize) {
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        let value = match &self.graph.operations()[at] {
            Operation::Row(binding) => self.rows[*binding].to_vec(),
            Operation::Parameter(index) => vec![self.parameters[*index]],
            Operation::Constant(number) => vec![*number],
            Operation::Unary(function, x) => {
                let function: fn(f32) -> f32 = match function {
                    Unary::Negate => |x| -x,
                    Unary::Exp => f32::exp,
                    Unary::Log => f32::ln,
                    Unary::Sqrt => f32::sqrt,
                };
                self.values[x.index()].iter().map(|&x| function(x)).collect()
            }
            Operation::Binary(function, a, b) => {
                let function: fn(f32, f32) -> f32 = match function {
                    Binary::Add => |a, b| a + b,
                    Binary::Subtract => |a, b| a - b,
                    Binary::Multiply => |a, b| a * b,
                    Binary::Divide => |a, b| a / b,
                    Binary::Max => f32::max,
                    Binary::Min => f32::min,
                };
                self.zip(a.index(), b.index(), function)
            }
            Operation::Compare(comparison, a, b) => match comparison {
                Comparison::Less => self.zip(a.index(), b.index(), |a, b| truth(a < b)),
                Comparison::LessOrEqual => self.zip(a.index(), b.index(), |a, b| truth(a <= b)),
                #[expect(clippy::float_cmp, reason = "the operation is equality")]
                Comparison::Equal => self.zip(a.index(), b.index(), |a, b| truth(a == b)),
            },
            Operation::Both(a, b) => self.zip(a.index(), b.index(), f32::min),
            Operation::Either(a, b) => self.zip(a.index(), b.index(), f32::max),
            Operation::Select(condition, then, otherwise) => {
                let [condition, then, otherwise] =
                    [condition, then, otherwise].map(|value| &self.values[value.index()]);
                let length = condition.len().max(then.len()).max(otherwise.len());
                let pick = |i| if entry(condition, i) > 0.5 { entry(then, i) } else { entry(otherwise, i) };
                (0..length).map(pick).collect()
            }
            Operation::Reduce(Reduction::Max, row) => {
                vec![self.values[row.index()].iter().copied().fold(f32::NEG_INFINITY, f32::max)]
            }
            Operation::Reduce(Reduction::Sum, row) => {
                let sum: f64 = self.values[row.index()].iter().copied().map(f64::from).sum();
                #[expect(clippy::cast_possible_truncation, reason = "runtimes compute in f32")]
                let sum = sum as f32;
                vec![sum]
            }
            Operation::Repeat(repeat) => {
                let repeat = repeat.clone();
                self.repeat(&repeat);
                return;
            }
            Operation::Result(repeat, place) => {
                let Operation::Repeat(repeat) = &self.graph.operations()[repeat.index()] else {
                    panic!("a result of what is no loop");
                };
                self.values[repeat.next[*place].index()].clone()
            }
            Operation::Carried(_) => return,
        };
        self.values[at] = value;
    }

    fn repeat(&mut self, repeat: &Repeat) {
        let places = repeat.body.start..repeat.body.start + repeat.initial.len();
        let mut carried: Vec<Vec<f32>> =
            repeat.initial.iter().map(|value| self.values[value.index()].clone()).collect();
        for _ in 0..repeat.times {
            for (place, value) in places.clone().zip(carried) {
                self.values[place] = value;
            }
            self.range(repeat.body.clone());
            carried = repeat.next.iter().map(|value| self.values[value.index()].clone()).collect();
        }
    }

    fn zip(&self, a: usize, b: usize, function: impl Fn(f32, f32) -> f32) -> Vec<f32> {
        let (a, b) = (&self.values[a], &self.values[b]);
        (0..a.len().max(b.len())).map(|i| function(entry(a, i), entry(b, i))).collect()
    }
}

/// A single number is repeated.
fn entry(values: &[f32], i: usize) -> f32 {
    if values.len() == 1 { values[0] } else { values[i] }
}
