//! The strategy of `examples/plugins/rust`, with its own tests; that crate is no member of the workspace.

#[expect(unreachable_pub, reason = "a module of a library, as its author wrote it")]
#[path = "../../../examples/plugins/rust/src/strategy.rs"]
mod strategy;

#[test]
fn it_says_of_itself_what_a_host_takes() {
    let strategy =
        strategy::Allowance::from_json(&logitfuse_plugin::serde_json::json!({})).expect("defaults are valid");
    let said = logitfuse_plugin::metadata::describe(logitfuse_plugin::FusionStrategy::info(&strategy)).expect("valid");
    assert_eq!((&said["id"], &said["lead"]), (&"allowance".into(), &"base".into()));
}
