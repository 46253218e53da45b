//! A fusion of a fusion: the one graph of an export is a model like any other, and is steered again.

use std::{fs, path::PathBuf, process::Command, sync::Arc};

use logitfuse_core::numerics::{Contrast, linear_combination, log_sum_exp};
use logitfuse_core::{
    FusedRow, FusionState, FusionStep, FusionStrategy, Memoryless, Result, RoleBinding, RoleRow, RoleSpec, SessionInfo,
    StrategyInfo, TokenId,
};
use logitfuse_engine::Request;
use logitfuse_pipeline::{Pipeline, strategy};
use serde_json::{Value, json};

use crate::support::runtime;

const ALPHA: f64 = 0.75;
const PROMPTS: [&str; 3] = [
    "Question: What is the food of the tamcub?\nAnswer:",
    "Problem: Ben has 17 coins. Ben finds 25. How many now?\nWork:",
    "The town of Soleth saw a storm on Wednesday.",
];

fn family(member: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/family/models").join(member)
}

/// Nesting by hand: the inner strategy's row is the base of another proxy.
struct Nested {
    inner: Arc<dyn FusionStrategy>,
    info: StrategyInfo,
}

struct NestedState {
    inner: Box<dyn FusionState>,
    fused: Vec<f32>,
}

impl Nested {
    fn new(inner: Arc<dyn FusionStrategy>) -> Self {
        let roles = ["base", "expert", "anti", "second_expert"].map(RoleSpec::one);
        Self { inner, info: StrategyInfo::new("nested", roles) }
    }
}

impl FusionStrategy for Nested {
    fn info(&self) -> &StrategyInfo {
        &self.info
    }

    fn start(&self, session: &SessionInfo) -> Result<Box<dyn FusionState>> {
        let inner: Vec<RoleBinding> = session.bindings[..3].to_vec();
        let inner = self.inner.start(&SessionInfo::new(inner, session.vocabulary.clone()))?;
        Ok(Box::new(NestedState { inner, fused: vec![0.0; session.vocabulary.width()] }))
    }
}

impl Clone for NestedState {
    fn clone(&self) -> Self {
        Self { inner: self.inner.fork().expect("a state without memory is copied"), fused: self.fused.clone() }
    }
}

impl Memoryless for NestedState {
    fn fuse(&mut self, step: &FusionStep<'_>, out: &mut FusedRow<'_>) -> Result<()> {
        let mut inner = FusedRow { logits: &mut self.fused, trace: &mut [] };
        self.inner.fuse(&FusionStep::new(&step.rows()[..3], step.committed), &mut inner)?;
        let base = RoleRow::new(&self.fused, log_sum_exp(&self.fused), 0.0);
        let (anti, expert) = (step.row(2), step.row(3));
        linear_combination(base.logits(), 1.0, &[Contrast::between(ALPHA, expert, anti)], out.logits);
        Ok(())
    }
}

fn decode(pipeline: &Pipeline) -> Vec<Vec<TokenId>> {
    let decode = |prompt: &&str| {
        let prompt = pipeline.encode(0, prompt).unwrap();
        let bindings = pipeline.decoder().session().bindings.len();
        let mut request = Request::new(vec![prompt; bindings]).max_new_tokens(64);
        request.ignore_end_of_sequence = true;
        pipeline.decoder().generate_one(&request).unwrap().tokens
    };
    PROMPTS.iter().map(decode).collect()
}

fn a_fusion_of_a_fusion_equals_nesting_by_hand(id: &str, params: &Value) {
    let workspace = tempfile::tempdir().unwrap();
    let source = |(role, member): (&str, &str)| (role.to_owned(), json!({ "model": family(member) }));
    let experiment = json!({
        "schema": 1,
        "sources": serde_json::Map::from_iter([("base", "L"), ("expert", "S-qa"), ("anti", "S")].map(source)),
        "strategy": { "use": id, "params": params },
    });
    let file = workspace.path().join("inner.toml");
    fs::write(&file, toml::to_string(&experiment).unwrap()).unwrap();
    let folder = workspace.path().join("fused");
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("logitfuse"));
    command.arg("export").arg(&file).args(["--target", "onnx", "--output"]).arg(&folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let outer = Pipeline::builder()
        .runtime(&runtime())
        .strategy("static-proxy", json!({ "alpha": ALPHA }))
        .model("base", &folder)
        .model("expert", family("S-math"))
        .model("anti", family("S"))
        .build()
        .unwrap();
    let by_hand = Pipeline::builder()
        .runtime(&runtime())
        .custom_strategy(Arc::new(Nested::new(strategy(id, params).unwrap())))
        .model("base", family("L"))
        .model("expert", family("S-qa"))
        .model("anti", family("S"))
        .model("second_expert", family("S-math"))
        .build()
        .unwrap();
    let expected = decode(&by_hand);
    assert_eq!(decode(&outer), expected);
    let inner = Pipeline::builder().runtime(&runtime()).model("base", &folder).build().unwrap();
    assert_ne!(decode(&inner), expected, "the outer strategy changes nothing");
}

#[test]
fn a_static_fusion_is_steered_again() {
    a_fusion_of_a_fusion_equals_nesting_by_hand("static-proxy", &json!({ "alpha": 0.5 }));
}

#[test]
fn a_dynamic_fusion_is_steered_again() {
    a_fusion_of_a_fusion_equals_nesting_by_hand("dynamic-kl", &json!({ "bounds": [0.0, 1.0] }));
}
