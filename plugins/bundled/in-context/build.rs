//! Writes down what the strategy says of itself.

logitfuse_plugin::metadata!(logitfuse_in_context::InContext);
