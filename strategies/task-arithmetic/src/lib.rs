//! Sums of task vectors in logit space, at a fixed strength or one solved at every token.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
