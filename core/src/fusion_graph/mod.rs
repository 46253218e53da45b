//! A fusion rule as a computation on arrays, for files that other runtimes serve.

mod kernels;

use std::{collections::BTreeMap, ops::Range};

pub use kernels::{Tilt, Tilts};

/// A fusion rule as data: operations on rows of logits, in the order in which they are computed.
///
/// # Why
///
/// A [`FusionState`](crate::FusionState) is code, which runs here and nowhere else. A rule without memory can be written
/// down instead, as [`FusionStrategy::lower`](crate::FusionStrategy::lower) does, and then become part of an ONNX graph that any
/// runtime serves.
///
/// # Example
///
/// Proxy tuning, with its strength as a parameter:
///
/// ```
/// use logitfuse_core::FusionGraph;
///
/// let mut graph = FusionGraph::new();
/// let [base, expert, anti] = [0, 1, 2].map(|row| graph.row(row));
/// let alpha = graph.parameter("alpha", 1.0);
/// let difference = graph.subtract(expert, anti);
/// let steering = graph.multiply(alpha, difference);
/// let fused = graph.add(base, steering);
/// graph.set_fused(fused);
///
/// assert_eq!(graph.parameters()[0].name, "alpha");
/// assert!(graph.is_row(fused) && !graph.is_row(alpha));
/// ```
///
/// # Reference
///
/// Every [`Value`] is, at each position, a row (one f32 for each id of the vocabulary) or a single f32, or a truth value of
/// either shape; a single one meets a row by being repeated. The operations are the [`Operation`]s. Numbers are f32
/// throughout, because that is what runtimes on phones and in browsers compute in.
///
/// Methods panic on a value of another graph, or one that is computed only inside a [`repeat`](Self::repeat): mistakes of a
/// strategy's author that no input can cause.
#[derive(Clone, Debug, Default)]
pub struct FusionGraph {
    operations: Vec<Operation>,
    rows: Vec<bool>,
    parameters: Vec<GraphParameter>,
    fused: Option<Value>,
    trace: Vec<(String, Value)>,
}

/// What one operation of a [`FusionGraph`] computes, by its place among the [`operations`](FusionGraph::operations).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Value(usize);

impl Value {
    /// The place of its operation.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A number that may be given anew at every call, such as `alpha`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GraphParameter {
    /// The name of the strategy's parameter; entries of lists are `weights.0`, `weights.1`, …
    pub name: String,
    /// Its value where none is given.
    pub default: f32,
}

/// One operation of a [`FusionGraph`].
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// The logits of the row at this place of [`SessionInfo::bindings`](crate::SessionInfo::bindings); ids outside the shared
    /// vocabulary are `-inf`.
    Row(usize),
    /// A parameter, by its place among [`FusionGraph::parameters`].
    Parameter(usize),
    /// A number.
    Constant(f32),
    /// A function of each entry.
    Unary(Unary, Value),
    /// A function of two numbers.
    Binary(Binary, Value, Value),
    /// A truth value from two numbers.
    Compare(Comparison, Value, Value),
    /// Whether both truth values hold.
    Both(Value, Value),
    /// Whether one of two truth values holds.
    Either(Value, Value),
    /// The second number where the first is true, the third elsewhere.
    Select(Value, Value, Value),
    /// One number from the entries of a row.
    Reduce(Reduction, Value),
    /// A value that a [`Repeat`](Self::Repeat) carries from one round to the next, by its place.
    Carried(usize),
    /// The operations of a range, computed again and again.
    Repeat(Box<Repeat>),
    /// What a [`Repeat`](Self::Repeat) carries after its last round, by its place.
    Result(Value, usize),
}

/// A loop with a fixed number of rounds; its operations may read what was computed before it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Repeat {
    /// Rounds.
    pub times: usize,
    /// The operations of one round, by place; the first ones are [`Operation::Carried`].
    pub body: Range<usize>,
    /// What is carried into the first round.
    pub initial: Vec<Value>,
    /// What a round carries on, in the same order.
    pub next: Vec<Value>,
}

/// Functions of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unary {
    Negate,
    Exp,
    /// Natural logarithm.
    Log,
    Sqrt,
}

/// Functions of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// The larger one.
    Max,
    /// The smaller one.
    Min,
}

/// Truth values from two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Less,
    LessOrEqual,
    Equal,
}

/// One number from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Reduction {
    Max,
    Sum,
}

macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident => $variant:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            pub fn $method(&mut self, a: Value, b: Value) -> Value {
                self.push(Operation::Binary(Binary::$variant, a, b))
            }
        )+
    };
}

impl FusionGraph {
    /// A graph that computes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The logits of a row, by its place in [`SessionInfo::bindings`](crate::SessionInfo::bindings).
    pub fn row(&mut self, binding: usize) -> Value {
        self.push(Operation::Row(binding))
    }

    /// A parameter with its default.
    pub fn parameter(&mut self, name: impl Into<String>, default: f64) -> Value {
        self.parameters
            .push(GraphParameter { name: name.into(), default: crate::numerics::lanes::clamp_to_f32(default) });
        self.push(Operation::Parameter(self.parameters.len() - 1))
    }

    /// A number.
    pub fn constant(&mut self, number: f32) -> Value {
        self.push(Operation::Constant(number))
    }

    binary! {
        /// `a + b`
        add => Add,
        /// `a − b`
        subtract => Subtract,
        /// `a · b`
        multiply => Multiply,
        /// `a / b`
        divide => Divide,
        /// The larger of two numbers.
        max => Max,
        /// The smaller of two numbers.
        min => Min,
    }

    /// A function of every entry.
    pub fn unary(&mut self, function: Unary, x: Value) -> Value {
        self.push(Operation::Unary(function, x))
    }

    /// `e^x`
    pub fn exp(&mut self, x: Value) -> Value {
        self.unary(Unary::Exp, x)
    }

    /// `ln x`
    pub fn log(&mut self, x: Value) -> Value {
        self.unary(Unary::Log, x)
    }

    /// Whether `a < b`, `a ≤ b` or `a = b`.
    pub fn compare(&mut self, comparison: Comparison, a: Value, b: Value) -> Value {
        self.push(Operation::Compare(comparison, a, b))
    }

    /// Whether both hold.
    pub fn both(&mut self, a: Value, b: Value) -> Value {
        self.push(Operation::Both(a, b))
    }

    /// Whether one of them holds.
    pub fn either(&mut self, a: Value, b: Value) -> Value {
        self.push(Operation::Either(a, b))
    }

    /// `then` where the condition holds, `otherwise` elsewhere; both are numbers.
    pub fn select(&mut self, condition: Value, then: Value, otherwise: Value) -> Value {
        self.push(Operation::Select(condition, then, otherwise))
    }

    /// The largest entry of a row.
    pub fn reduce_max(&mut self, row: Value) -> Value {
        self.push(Operation::Reduce(Reduction::Max, row))
    }

    /// The sum of a row's entries.
    pub fn reduce_sum(&mut self, row: Value) -> Value {
        self.push(Operation::Reduce(Reduction::Sum, row))
    }

    /// Carries `initial` through a number of rounds of `body`, and gives what the last one returns.
    ///
    /// ```
    /// # use logitfuse_core::FusionGraph;
    /// // Newton's method for the square root of 2.
    /// let mut graph = FusionGraph::new();
    /// let start = graph.constant(1.0);
    /// let [root] = graph.repeat(5, [start], |graph, [x]| {
    ///     let (two, half) = (graph.constant(2.0), graph.constant(0.5));
    ///     let quotient = graph.divide(two, x);
    ///     let sum = graph.add(x, quotient);
    ///     [graph.multiply(half, sum)]
    /// });
    /// assert!(!graph.is_row(root));
    /// ```
    ///
    /// # Panics
    /// If a round returns a row for what began as a number, or the other way.
    pub fn repeat<const N: usize>(
        &mut self,
        times: usize,
        initial: [Value; N],
        body: impl FnOnce(&mut Self, [Value; N]) -> [Value; N],
    ) -> [Value; N] {
        let begin = self.operations.len();
        let mut place = 0;
        let carried = initial.map(|value| {
            let row = self.is_row(value);
            place += 1;
            self.push_shaped(Operation::Carried(place - 1), row)
        });
        let next = body(self, carried);
        for (value, initial) in next.iter().zip(&initial) {
            assert_eq!(self.is_row(*value), self.is_row(*initial), "a round changes the shape of what it carries");
        }
        let body = begin..self.operations.len();
        let repeat = Repeat { times, body, initial: initial.to_vec(), next: next.to_vec() };
        let repeat = self.push_shaped(Operation::Repeat(Box::new(repeat)), false);
        let mut place = 0;
        initial.map(|value| {
            let row = self.is_row(value);
            place += 1;
            self.push_shaped(Operation::Result(repeat, place - 1), row)
        })
    }

    /// Sets the row that is sampled from.
    pub fn set_fused(&mut self, row: Value) {
        self.fused = Some(row);
    }

    /// Adds a number that the runtime reports beside the row: a column of [`StrategyInfo::trace`](crate::StrategyInfo::trace).
    pub fn add_trace(&mut self, name: &str, value: Value) {
        self.trace.push((name.to_owned(), value));
    }

    /// Its operations, each after those that it reads.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The places of a range's operations without those of the bodies in it, which their loops compute.
    ///
    /// # Panics
    /// If there is no such range.
    pub fn outside_of_bodies(&self, range: Range<usize>) -> Vec<usize> {
        let bodies: BTreeMap<usize, usize> = self.operations[range.clone()]
            .iter()
            .filter_map(|operation| match operation {
                Operation::Repeat(repeat) => Some((repeat.body.start, repeat.body.end)),
                _ => None,
            })
            .collect();
        let (mut places, mut at) = (Vec::new(), range.start);
        while at < range.end {
            if let Some(&end) = bodies.get(&at) {
                at = end;
            } else {
                places.push(at);
                at += 1;
            }
        }
        places
    }

    /// Whether a value is a row; else it is one number.
    ///
    /// # Panics
    /// If the value is of another graph.
    pub fn is_row(&self, value: Value) -> bool {
        self.rows[value.0]
    }

    /// What may be given at every call.
    pub fn parameters(&self) -> &[GraphParameter] {
        &self.parameters
    }

    /// The row that is sampled from.
    ///
    /// # Panics
    /// If the strategy set none.
    pub fn fused(&self) -> Value {
        self.fused.expect("a lowered strategy sets its fused row")
    }

    /// Numbers that are reported beside the row, with their names.
    pub fn trace(&self) -> &[(String, Value)] {
        &self.trace
    }

    fn push(&mut self, operation: Operation) -> Value {
        let row = match &operation {
            Operation::Row(_) => true,
            Operation::Unary(_, x) => self.is_row(*x),
            Operation::Binary(_, a, b)
            | Operation::Compare(_, a, b)
            | Operation::Both(a, b)
            | Operation::Either(a, b) => self.is_row(*a) || self.is_row(*b),
            Operation::Select(condition, a, b) => [condition, a, b].iter().any(|value| self.is_row(**value)),
            _ => false,
        };
        self.push_shaped(operation, row)
    }

    fn push_shaped(&mut self, operation: Operation, row: bool) -> Value {
        self.operations.push(operation);
        self.rows.push(row);
        Value(self.operations.len() - 1)
    }
}
