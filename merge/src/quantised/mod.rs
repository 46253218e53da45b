//! Weights that are stored as small integers with scales: what the operators of a graph mean by them, and how numbers become
//! such integers again.

mod fit;
mod layout;
mod packing;
mod reader;
mod scheme;

pub(crate) use self::{
    fit::{Loss, PIECE, Refit},
    reader::GridReader,
    scheme::{Scheme, Schemes},
};
