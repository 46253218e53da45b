//! The examples of the READMEs of the crates, as doctests: `cargo test --doc` compiles and runs them.

#[cfg(doctest)]
mod readmes {
    #[doc = include_str!("../../backends/onnx/README.md")]
    mod backends_onnx {}
    #[doc = include_str!("../../backends/replay/README.md")]
    mod backends_replay {}
    #[doc = include_str!("../../cli/README.md")]
    mod cli {}
    #[doc = include_str!("../../conformance/README.md")]
    mod conformance {}
    #[doc = include_str!("../../core/README.md")]
    mod core {}
    #[doc = include_str!("../../engine/README.md")]
    mod engine {}
    #[doc = include_str!("../../experiment/README.md")]
    mod experiment {}
    #[doc = include_str!("../../metrics/README.md")]
    mod metrics {}
    #[doc = include_str!("../../plugins/abi/README.md")]
    mod plugins_abi {}
    #[doc = include_str!("../../plugins/host/README.md")]
    mod plugins_host {}
    #[doc = include_str!("../../plugins/sdk/README.md")]
    mod plugins_sdk {}
    #[doc = include_str!("../../report/README.md")]
    mod report {}
    #[doc = include_str!("../../rundir/README.md")]
    mod rundir {}
    #[doc = include_str!("../../setup/README.md")]
    mod setup {}
    #[doc = include_str!("../../strategies/dynamic-kl/README.md")]
    mod strategies_dynamic_kl {}
    #[doc = include_str!("../../strategies/ensemble/README.md")]
    mod strategies_ensemble {}
    #[doc = include_str!("../../strategies/in-context/README.md")]
    mod strategies_in_context {}
    #[doc = include_str!("../../strategies/static-proxy/README.md")]
    mod strategies_static_proxy {}
    #[doc = include_str!("../../strategies/task-arithmetic/README.md")]
    mod strategies_task_arithmetic {}
    #[doc = include_str!("../../strategies/wrappers/README.md")]
    mod strategies_wrappers {}
    #[doc = include_str!("../../text/README.md")]
    mod text {}
}
