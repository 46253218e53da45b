//! A validator for JSON Schema that reports what is wrong as data, so that its callers choose words and places.
//!
//! # Why
//!
//! Two callers check values against schemas. An experiment's TOML must show every fault at once, underlined, with the nearest
//! names; a plugin's parameters are one JSON object, of which the first fault is reported by its JSON pointer. The `jsonschema`
//! crate serves neither: its errors are sentences without a place in a TOML, a failed `oneOf` does not say which alternative
//! was meant, a schema that refers to itself is not bounded by work, keywords that it does not know pass in silence, and it brings 29 crates
//! (version 0.61 without default features). This one has no dependency but `serde_json`.
//!
//! # Example
//!
//! ```
//! use logitfuse_schema::{Schema, validate};
//! use serde_json::json;
//!
//! let schema = Schema::new(&json!({
//!     "type": "object", "additionalProperties": false,
//!     "properties": { "alpha": { "type": "number", "minimum": 0, "maximum": 1 } },
//! }))?;
//! assert!(schema.check(&json!({ "alpha": 0.5 })).is_ok());
//! let refusal = schema.check(&json!({ "alpha": 1.5 })).unwrap_err();
//! assert_eq!((&*refusal.pointer, &*refusal.why), ("/alpha", "must be at most 1, and is 1.5"));
//!
//! // As data, and all of it.
//! let params = json!({ "alpha": "much", "alhpa": 1 });
//! let violations = validate(schema.root(), schema.root(), &params);
//! assert_eq!(violations.len(), 2);
//! # Ok::<(), String>(())
//! ```
//!
//! # Reference
//!
//! * [`validate`] walks a value and a schema, and gives [`Violation`]s: a path and a [`Problem`].
//! * [`Instance`] is a value that can be walked: `&serde_json::Value`, or a caller's own tree.
//! * [`Schema`] is a schema of which every keyword is understood, with [`Refusal`]s in words.
//! * [`resolve`], [`description`], [`choices`], [`types`], [`bounds`]: what schemas say, for those who write the words.
//!
//! The keywords are those of draft 2020-12 that describe tables, lists, numbers and texts, without patterns, formats and remote
//! references. Depth and work are bounded, whatever a schema refers to; one that requires itself is refused, for no value fulfils it.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod ends;
mod instance;
mod keywords;
mod refusal;
mod schema;
mod validate;

pub use instance::{Instance, View};
pub use keywords::{choices, description, resolve, types};
pub use refusal::Refusal;
pub use schema::Schema;
pub use validate::{Problem, Violation, bounds, validate};
