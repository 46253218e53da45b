//! ONNX graphs as data: opened without their weights, joined, changed and written again.
//!
//! # Why
//!
//! A model file holds two things of very different size: a graph of some hundred kilobytes, and gigabytes of weights. To
//! look at the graph, to put several into one file or to give its inputs other names, the weights need not be read. The
//! `onnx` package of Python loads them, joins only what it can check (`onnx.compose` refuses operators that ONNX Runtime
//! added to ONNX's own domain), and stops at the 2 GiB that a protobuf file may have. Here a [`Model`] is the graph and
//! the places of the weights; saving copies them in pieces.
//!
//! # Example
//!
//! Two models over the same token ids, and their mean as a third output:
//!
//! ```
//! # fn main() -> logitfuse_core::Result<()> {
//! use logitfuse_onnx_graph::{ElementType, Initializer, Joined, Model, Part};
//! use logitfuse_onnx_graph::proto::{DimensionValue, Node, OperatorSet, ValueInfo};
//!
//! // Models come from files, with `Model::open`; this one is a table of logits for eight token ids.
//! let model = |seed: f32| {
//!     let (batch, ids) = (DimensionValue::Named("batch".into()), DimensionValue::Fixed(8));
//!     let mut model = Model::default();
//!     model.header.opset_import = vec![OperatorSet { domain: None, version: Some(17) }];
//!     model.graph_mut().input = vec![ValueInfo::tensor("ids", ElementType::INT64, &[batch.clone()])];
//!     model.graph_mut().output = vec![ValueInfo::tensor("logits", ElementType::FLOAT, &[batch, ids])];
//!     model.graph_mut().node = vec![Node::new("Gather", &["table", "ids"], &["logits"])];
//!     model.initializers = vec![Initializer::float("table", &[8, 8], &[seed; 64])];
//!     model
//! };
//! let mut joined = Joined::new("mean");
//! joined.add(model(1.0), &Part::new("a").share("ids"))?;
//! joined.add(model(2.0), &Part::new("b").share("ids"))?;
//! let mut joined = joined.finish();
//! joined.graph_mut().node.push(Node::new("Mean", &["a/logits", "b/logits"], &["logits"]));
//!
//! let folder = tempfile::tempdir().unwrap();
//! joined.save(&folder.path().join("mean.onnx"))?;
//! let again = Model::open(&folder.path().join("mean.onnx"))?;
//! assert_eq!(again.required_inputs().map(|input| input.name()).collect::<Vec<_>>(), ["ids"]);
//! assert_eq!(again.initializers.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Reference
//!
//! | what | is |
//! |---|---|
//! | [`Model`] | the messages of a file ([`proto`]) and its [`Initializer`]s, whose bytes stay where they lie |
//! | [`Outline`] | the same without elements of tensors, to look at a model that a runtime will open |
//! | [`Model::validate`], [`Model::sort`] | whether the graph hangs together; its nodes in an order in which they can run |
//! | [`Joined`], [`Part`] | several models as one graph: prefixes, shared inputs, equal weights once, operators of one version |
//! | [`rename_values`] and its siblings | other names, in the bodies of `If`, `Loop` and `Scan` too |
//! | [`Model::save`] | one file, or two where the weights are large |
//! | [`Staging`] | a folder that is there complete or not at all |
//! | [`Model::save_linked`] | a file beside links to those of the weights: a change of names rewrites no weight |
//!
//! A model that is saved appears under its name when all of it is there, and replaces another one as a whole. Where a process
//! is killed meanwhile there is the old model, the new one or none, and files called `….partial` that the next attempt
//! overwrites.
//!
//! # What is refused
//!
//! Files come from strangers. A header of more than 64 MiB, of more than two million fields (a message counts as five), or
//! nested more than a hundred deep; more than 400 000 initializers; weights outside the model's folder, in what is no regular
//! file, of another length than their shape needs, or overlapping; tensors of more than 2^40 elements; a newer format than
//! [`proto::NEWEST_IR_VERSION`]; graphs for training. Opening needs memory for the header only, of which a file of 64 MiB
//! takes at most some hundred. Weights are read where they lay when the model was opened, and from those files only: one that
//! was changed since is an error.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod bounds;
mod build;
mod error;
mod external;
mod join;
mod link;
mod model;
mod open;
mod opset;
mod order;
mod outline;
pub mod proto;
mod read;
mod rename;
mod save;
mod shape;
mod staging;
mod stamp;
mod tensor;
mod validate;
mod walk;
mod wire;

pub use external::ExternalFile;
pub use join::{Joined, Part};
pub use model::Model;
pub use outline::Outline;
pub use rename::{rename_dimensions, rename_nodes, rename_values};
pub use staging::Staging;
pub use tensor::{ElementType, Initializer, TensorData};
