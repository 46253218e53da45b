//! One tensor of all parents, merged: any stretch of it, at any time.

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    arithmetic::{
        Magnitudes, dare, delta, linear, scale,
        slerp::Angle,
        task_arithmetic,
        ties::{self, Trim},
    },
    bytes::Bytes,
    float::Float,
    quantised::{GridReader, PIECE},
    recipe::{Method, Parent, Recipe, Rescale, Sparse},
};

/// A tensor of one parent as numbers.
pub(crate) struct Source {
    parent: String,
    tensor: String,
    values: Values,
    bytes: Vec<u8>,
}

pub(crate) enum Values {
    Float(Float, Bytes),
    Grid(Box<GridReader>),
}

impl Source {
    pub(crate) fn new(parent: &Parent, tensor: &str, values: Values) -> Self {
        Self { parent: parent.name.clone(), tensor: tensor.to_owned(), values, bytes: Vec::new() }
    }

    fn read(&mut self, start: usize, out: &mut [f32]) -> Result<()> {
        match &mut self.values {
            Values::Float(float, bytes) => {
                self.bytes.resize(out.len() * float.size(), 0);
                bytes.read((start * float.size()) as u64, &mut self.bytes)?;
                float.decode(&self.bytes, out);
            }
            Values::Grid(grid) => grid.read(start, out)?,
        }
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(i) => {
                let what = format!("{}: `{}` holds {} at element {}", self.parent, self.tensor, out[i], start + i);
                Err(Error::new(ErrorKind::Numeric, what)
                    .with_help("the model is damaged, or its training diverged: it cannot be merged"))
            }
        }
    }
}

/// Everything that is needed to merge one tensor.
pub(crate) struct Blend<'a> {
    recipe: &'a Recipe,
    tensor: String,
    elements: usize,
    base: Option<Source>,
    experts: Vec<Source>,
    weights: Vec<f64>,
    /// How each expert's delta is thinned out; empty where deltas are whole.
    thinned: Vec<Thinned>,
    base_piece: Vec<f32>,
    pieces: Vec<Vec<f32>>,
}

struct Thinned {
    by: Thin,
    /// What stays is multiplied with this, if anything.
    factor: Option<f64>,
}

#[derive(Clone)]
enum Thin {
    Trim(Trim),
    Mask(Box<dare::Mask>),
}

impl Thin {
    fn apply(&mut self, start: usize, delta: &mut [f32]) {
        match self {
            Self::Trim(trim) => trim.apply(start, delta),
            Self::Mask(mask) => {
                let mut keep = vec![false; delta.len()];
                mask.draw(start, &mut keep);
                dare::drop_out(delta, &keep);
            }
        }
    }
}

impl<'a> Blend<'a> {
    /// Gathers what the method needs to know of whole tensors.
    pub(crate) fn new(
        recipe: &'a Recipe,
        tensor: &str,
        elements: usize,
        base: Option<Source>,
        experts: Vec<Source>,
    ) -> Result<Self> {
        let weights = recipe.experts.iter().map(|expert| expert.weight).collect();
        let pieces = vec![Vec::new(); experts.len()];
        let (thinned, base_piece) = (Vec::new(), Vec::new());
        let tensor_name = tensor.to_owned();
        let mut blend =
            Self { recipe, tensor: tensor_name, elements, base, experts, weights, thinned, base_piece, pieces };
        match recipe.method {
            Method::Linear { normalize: true } => blend.weights = linear::normalized(&blend.weights),
            Method::Linear { normalize: false } | Method::TaskArithmetic { .. } => {}
            Method::Ties(sparse) | Method::DareLinear(sparse) | Method::DareTies(sparse) => {
                for (i, expert) in recipe.experts.iter().enumerate() {
                    let by = match recipe.method {
                        Method::Ties(_) => Thin::Trim(blend.trim(i, expert.density)?),
                        _ => Thin::Mask(Box::new(dare::Mask::new(sparse.seed, &expert.name, tensor, expert.density))),
                    };
                    let factor = blend.rescale(i, expert.density, sparse, &by)?;
                    blend.thinned.push(Thinned { by, factor });
                }
            }
            Method::Slerp { t } => {
                let mut angle = Angle::default();
                blend.both(0, &mut |base, expert| angle.add(base, expert))?;
                blend.weights = angle.weights(t).to_vec();
            }
        }
        Ok(blend)
    }

    /// The merged numbers from an element on.
    pub(crate) fn fill(&mut self, start: usize, out: &mut [f32]) -> Result<()> {
        let n = out.len();
        self.base_piece.resize(n, 0.0);
        if let Some(base) = &mut self.base {
            base.read(start, &mut self.base_piece)?;
        }
        for (expert, piece) in self.experts.iter_mut().zip(&mut self.pieces) {
            piece.resize(n, 0.0);
            expert.read(start, piece)?;
        }
        match self.recipe.method {
            Method::Linear { .. } => linear::sum(&slices(&self.pieces), &self.weights, out),
            Method::Slerp { .. } => linear::sum(&[&self.base_piece, &self.pieces[0]], &self.weights, out),
            Method::TaskArithmetic { lambda, normalize } | Method::DareLinear(Sparse { lambda, normalize, .. }) => {
                self.make_deltas(start);
                let factor = task_arithmetic::factor(&self.weights, lambda, normalize);
                task_arithmetic::add(&self.base_piece, &slices(&self.pieces), &self.weights, factor, out);
            }
            Method::Ties(Sparse { lambda, normalize, .. }) | Method::DareTies(Sparse { lambda, normalize, .. }) => {
                self.make_deltas(start);
                ties::elect(&self.base_piece, &slices(&self.pieces), &self.weights, lambda, normalize, out);
            }
        }
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(i) => Err(overflow(&self.tensor, "fp32", start + i)),
        }
    }

    /// Pieces of experts become deltas, thinned out where the method does so.
    fn make_deltas(&mut self, start: usize) {
        for (i, piece) in self.pieces.iter_mut().enumerate() {
            for (value, base) in piece.iter_mut().zip(&self.base_piece) {
                *value -= base;
            }
            if let Some(thinned) = self.thinned.get_mut(i) {
                thinned.by.apply(start, piece);
                if let Some(factor) = thinned.factor {
                    scale(piece, factor);
                }
            }
        }
    }

    fn trim(&mut self, expert: usize, density: f64) -> Result<Trim> {
        let (elements, mut piece) = (self.elements, Vec::new());
        Trim::of(elements, density, &mut |take| {
            self.both(expert, &mut |base, expert| {
                piece.resize(base.len(), 0.0);
                delta(base, expert, &mut piece);
                take(&piece);
            })
        })
    }

    fn rescale(&mut self, expert: usize, density: f64, sparse: Sparse, by: &Thin) -> Result<Option<f64>> {
        Ok(match sparse.rescale {
            Rescale::None => None,
            Rescale::Density => (density > 0.0).then_some(1.0 / density),
            Rescale::L1 => {
                let (mut sums, mut by, mut start) = (Magnitudes::default(), by.clone(), 0);
                let (mut before, mut after) = (Vec::new(), Vec::new());
                self.both(expert, &mut |base, expert| {
                    before.resize(base.len(), 0.0);
                    delta(base, expert, &mut before);
                    after.clone_from(&before);
                    by.apply(start, &mut after);
                    sums.add(&before, &after);
                    start += before.len();
                })?;
                Some(sums.factor())
            }
        })
    }

    /// The pieces of the base and of one expert, in order.
    fn both(&mut self, expert: usize, take: &mut dyn FnMut(&[f32], &[f32])) -> Result<()> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let base = self.base.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "a delta without a base"))?;
        for start in (0..self.elements).step_by(PIECE) {
            let n = PIECE.min(self.elements - start);
            ours.resize(n, 0.0);
            theirs.resize(n, 0.0);
            base.read(start, &mut ours)?;
            self.experts[expert].read(start, &mut theirs)?;
            take(&ours, &theirs);
        }
        Ok(())
    }
}

fn slices(pieces: &[Vec<f32>]) -> Vec<&[f32]> {
    pieces.iter().map(Vec::as_slice).collect()
}

/// A merged number is larger than its type holds.
pub(crate) fn overflow(tensor: &str, kind: &str, element: usize) -> Error {
    Error::new(ErrorKind::Numeric, format!("`{tensor}`: the merged element {element} is too large for {kind}"))
        .with_help("choose smaller weights or a smaller `lambda`")
}
