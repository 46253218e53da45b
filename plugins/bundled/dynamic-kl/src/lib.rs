//! Dynamic logits fusion, as a shared library; the strategy itself is `logitfuse-dynamic-kl`.

logitfuse_plugin::export!(logitfuse_dynamic_kl::DynamicKl);
