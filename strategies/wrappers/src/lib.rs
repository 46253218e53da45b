//! Gates and schedules around any strategy.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
