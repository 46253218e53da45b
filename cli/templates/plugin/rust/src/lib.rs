//! The fusion strategy `{{name}}` as a plugin of logitfuse. The rule itself is in `strategy.rs`.

mod strategy;

logitfuse_plugin::export!(strategy::Rule);
