//! Merged weights: several ONNX models of one architecture become one, without `PyTorch`.
//!
//! # Why
//!
//! Task arithmetic and its kin add what tuning taught several models, in their weights: the result costs what one model costs. The
//! tools for it want `PyTorch` and checkpoints in its format. Models in ONNX folders, for instance the experts of
//! a fusion, need neither here: tensors are read, merged and written piece by piece, quantised ones included.
//!
//! # Example
//!
//! ```
//! # fn main() -> logitfuse_core::Result<()> {
//! use logitfuse_merge::{Folder, Recipe, merge};
//! # use logitfuse_onnx_graph::{Initializer, Model};
//! # let models = tempfile::tempdir().unwrap();
//! # for (name, weights) in [("S", [1.0, 1.0]), ("S-math", [3.0, 1.0]), ("S-qa", [1.0, 0.0])] {
//! #     let folder = models.path().join(name);
//! #     std::fs::create_dir(&folder).unwrap();
//! #     let model = Model { initializers: vec![Initializer::float("w", &[2], &weights)], ..Model::default() };
//! #     model.save(&folder.join("model.onnx"))?;
//! # }
//! let recipe = Recipe::parse(&models.path().join("merge.toml"), r#"
//!     method = "task_arithmetic"
//!     lambda = 0.5
//!     [base]
//!     model = "S"
//!     [[expert]]
//!     model = "S-math"
//!     [[expert]]
//!     model = "S-qa"
//! "#)?;
//! let locate = |path: &std::path::Path, _variant: Option<&str>| {
//!     Ok(Folder { root: path.to_owned(), onnx: path.join("model.onnx") })
//! };
//! let merged = merge(&recipe, &models.path().join("S-both"), locate, &mut |_| Ok(()))?;
//! assert_eq!(merged.merged, 1);
//! # let made = Model::open(&merged.onnx)?;
//! # let w: Vec<f32> = made.initializers[0].bytes()?.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
//! # assert_eq!(w, [2.0, 0.5]);
//! # Ok(())
//! # }
//! ```
//!
//! # Reference
//!
//! | what | is |
//! |---|---|
//! | [`Recipe`] | what to merge and how, from a TOML |
//! | [`merge()`] | from a recipe to a folder |
//! | [`arithmetic`] | the methods, over slices of numbers |
//!
//! | tensors | become |
//! |---|---|
//! | equal in all parents, of whatever type | the first parent's |
//! | fp32, fp16, bf16 | merged in fp32 with sums in fp64, rounded once |
//! | integers of 2, 4 or 8 bits with scales, as `MatMulNBits`, `GatherBlockQuantized`, `DequantizeLinear`, `MatMulInteger`, `MatMulIntegerToFloat` and `DynamicQuantizeMatMul` read them | numbers, merged, and integers of the same scheme; what that loses is in [`Merged::requantised`] |
//! | anything else that differs | an error that names it |
//!
//! The same recipe and the same files give the same bytes on every machine.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod arithmetic;
mod blend;
mod bytes;
mod card;
mod float;
mod merge;
mod parents;
mod plan;
mod quantised;
mod recipe;
mod side_files;

pub use merge::{Merged, Progress, Requantised, Tell, merge};
pub use parents::Folder;
pub use recipe::{Method, Parent, Recipe, Rescale, Sparse};
