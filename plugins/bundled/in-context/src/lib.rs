//! In-context fusion, as a shared library; the strategy itself is `logitfuse-in-context`.

logitfuse_plugin::export!(logitfuse_in_context::InContext);
