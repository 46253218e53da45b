//! Dynamic logit fusion: the strength of the experts solved afresh at every token.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
