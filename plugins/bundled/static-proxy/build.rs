//! Writes down what the strategy says of itself.

logitfuse_plugin::metadata!(logitfuse_static_proxy::StaticProxy);
