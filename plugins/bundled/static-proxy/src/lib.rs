//! Proxy tuning, as a shared library; the strategy itself is `logitfuse-static-proxy`.

logitfuse_plugin::export!(logitfuse_static_proxy::StaticProxy);
