//! What `models inspect` says of a model's rows when it reads several tokens at once.

use logitfuse_pipeline::ChunkConsistency;

/// One line on how far the rows lie apart.
pub(super) fn describe(measured: &ChunkConsistency) -> String {
    let (chunk, tokens) = (ChunkConsistency::CHUNK, measured.tokens);
    if measured.distance == 0.0 {
        return format!("equal rows whether read one by one or {chunk} at once (a text of {tokens} tokens)");
    }
    let share = 100.0 * measured.distance;
    let differ = format!("rows read one by one and {chunk} at once differ by up to");
    if !measured.matters() {
        return format!("{differ} {share:.0e} % of the probability (a text of {tokens} tokens)");
    }
    format!(
        "{differ} {share:.1} % of the probability (a text of {tokens} tokens); warning: [speculation] may change greedy \
         texts of this export, compare with drafts off"
    )
}
