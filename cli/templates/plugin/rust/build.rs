//! Writes down what the strategy says of itself, for a section of the library that can be read without running it.

#[path = "src/strategy.rs"]
mod strategy;

logitfuse_plugin::metadata!(strategy::Rule);
