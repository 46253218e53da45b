//! Entry points for the fuzzing targets of `tests/fuzz`. Not part of the public interface.

use logitfuse_plugin_host::StrategyMetadata;

use crate::sample_params::{SplitMix64, allowed, least, refused};

/// Makes parameters up for a strategy as `plugin check` does, in the parent before anything is isolated among others; what is
/// proposed as refused is.
pub fn parameters(strategy: &StrategyMetadata, seed: u64) {
    let schema = strategy.schema();
    let base = least(schema);
    let mut rng = SplitMix64::new(seed);
    for _ in 0..4 {
        let table = allowed(schema, &base, &mut rng);
        assert!(table == base || schema.check(&table).is_ok(), "{table}");
    }
    for (table, pointer) in refused(schema, &base) {
        assert!(schema.check(&table).is_err_and(|refusal| refusal.pointer == pointer), "{table}");
    }
}
