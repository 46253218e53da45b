//! The two lines that make a plugin.

/// Exports strategies as a plugin: one line in `src/lib.rs` of a crate of type `cdylib`.
///
/// Each type is a [`FusionStrategy`](crate::FusionStrategy) with a function
/// `from_json(&serde_json::Value) -> Result<Self>`. The metadata come from the crate's build script, which is one call of
/// [`metadata!`](crate::metadata!) with the same types in the same order:
///
/// ```text
/// logitfuse_plugin::export!(Gate, Schedule);
/// ```
///
/// Or the metadata are given, as a constant array of bytes:
///
/// ```
/// use logitfuse_plugin::{Error, ErrorKind, FusionState, FusionStrategy, Result, SessionInfo, StrategyInfo};
///
/// struct Never(StrategyInfo);
///
/// impl Never {
///     fn from_json(_: &logitfuse_plugin::serde_json::Value) -> Result<Self> {
///         Ok(Self(StrategyInfo::new("never", [])))
///     }
/// }
///
/// impl FusionStrategy for Never {
///     fn info(&self) -> &StrategyInfo {
///         &self.0
///     }
///     fn start(&self, _: &SessionInfo) -> Result<Box<dyn FusionState>> {
///         Err(Error::new(ErrorKind::Unsupported, "never fuses anything"))
///     }
/// }
///
/// logitfuse_plugin::export!(
///     meta: *b"LFMETA01{\"abi\":[1,0],\"plugin\":{\"id\":\"x\",\"version\":\"1.0.0\"},\"strategies\":[{\"id\":\"never\",\"roles\":[],\"params\":{}}]}\0";
///     Never
/// );
/// ```
///
/// The crate must unwind: with `panic = "abort"` a panic could not be caught, and it does not compile.
#[macro_export]
macro_rules! export {
    (meta: $meta:expr; $($strategy:ty),+ $(,)?) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!("a plugin must unwind, so that a panic ends a run with a message and not the whole process: remove `panic = \"abort\"` from the profile");

        const _: () = {
            const META: &[u8] = &$meta;

            #[allow(unsafe_code, reason = "the names that logitfuse_plugin.h gives the two symbols of a plugin")]
            #[unsafe(no_mangle)]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__lfmeta"))]
            #[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".lfmeta"))]
            static LF_PLUGIN_META: [u8; META.len()] = $meta;

            static PLUGIN: $crate::__private::Plugin =
                $crate::__private::Plugin::new(&LF_PLUGIN_META, &[$({
                    struct Maker;
                    impl $crate::__private::Make for Maker {
                        type Strategy = $strategy;
                        fn make(params: &$crate::serde_json::Value) -> $crate::Result<$strategy> {
                            <$strategy>::from_json(params)
                        }
                    }
                    $crate::__private::strategy::<Maker>()
                }),+]);

            #[allow(unsafe_code, reason = "the names that logitfuse_plugin.h gives the two symbols of a plugin")]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn lf_plugin_entry_v1(
                host: *const $crate::__private::lf_host_v1,
                err: *mut $crate::__private::lf_error,
            ) -> *const $crate::__private::lf_plugin_v1 {
                // SAFETY: the header makes the host promise what `enter` asks for.
                unsafe { PLUGIN.enter(host, err) }
            }
        };
    };
    ($($strategy:ty),+ $(,)?) => {
        $crate::export!(
            meta: *::core::include_bytes!(::core::concat!(
                ::core::env!("OUT_DIR", "a plugin has a build.rs that calls logitfuse_plugin::metadata!(…)"),
                "/logitfuse_plugin.meta"
            ));
            $($strategy),+
        );
    };
}

/// The whole build script of a plugin: makes each strategy with default parameters and writes down what it says of itself.
///
/// ```text
/// #[path = "src/strategy.rs"]
/// mod strategy;
///
/// logitfuse_plugin::metadata!(strategy::Gate);
/// ```
///
/// The plugin's id is the name of its package; `metadata!("org.example.gate"; strategy::Gate)` gives it another. A strategy
/// that cannot be made of no parameters gets some, as JSON: `metadata!(strategy::Gate => r#"{ "width": 3 }"#)`.
///
/// ```
/// # struct Mean(logitfuse_plugin::StrategyInfo);
/// # impl Mean {
/// #     fn from_json(p: &logitfuse_plugin::serde_json::Value) -> logitfuse_plugin::Result<Self> {
/// #         assert_eq!(p["width"], 3);
/// #         Ok(Self(logitfuse_plugin::StrategyInfo::new("mean", [])))
/// #     }
/// # }
/// # impl logitfuse_plugin::FusionStrategy for Mean {
/// #     fn info(&self) -> &logitfuse_plugin::StrategyInfo { &self.0 }
/// #     fn start(&self, _: &logitfuse_plugin::SessionInfo) -> logitfuse_plugin::Result<Box<dyn logitfuse_plugin::FusionState>> {
/// #         Err(logitfuse_plugin::Error::new(logitfuse_plugin::ErrorKind::Unsupported, "only its metadata matter"))
/// #     }
/// # }
/// mod build_script {
///     use super::Mean;
///     logitfuse_plugin::metadata!("org.example.mean"; Mean => r#"{ "width": 3 }"#);
///     # pub fn run() { assert!(main().unwrap_err().to_string().starts_with("OUT_DIR")); }
/// }
/// # fn main() { build_script::run(); }
/// ```
#[macro_export]
macro_rules! metadata {
    (@write $package:expr; $($strategy:ty $(=> $params:expr)?),+) => {
        fn main() -> $crate::Result<()> {
            let package: $crate::metadata::Package = $package;
            $crate::metadata::write(&package, &[$({
                let params: &[&str] = &[$($params)?];
                let params = $crate::metadata::params(params.first().copied())?;
                let strategy = <$strategy>::from_json(&params)?;
                $crate::FusionStrategy::info(&strategy).clone()
            }),+])
        }
    };
    ($id:literal; $($strategy:ty $(=> $params:expr)?),+ $(,)?) => {
        $crate::metadata!(@write
            $crate::metadata::Package { id: $id.into(), ..$crate::metadata::Package::of_build_script() };
            $($strategy $(=> $params)?),+);
    };
    ($($strategy:ty $(=> $params:expr)?),+ $(,)?) => {
        $crate::metadata!(@write $crate::metadata::Package::of_build_script(); $($strategy $(=> $params)?),+);
    };
}
