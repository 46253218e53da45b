//! Means of distributions, contrastive decoding and three-way mixtures.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
