//! Where a solved strength was that of a bound.

use std::collections::BTreeMap;

use logitfuse_core::Result;

use crate::{Run, SampleRecord};

/// Counts, by variant, the traced tokens at which a bound stopped the solver of a strength: those whose trace column
/// `saturated` is 1.
///
/// ```
/// use logitfuse_rundir::{SampleRecord, Saturation};
///
/// # let token = |saturated: f64| serde_json::json!({
/// #     "token": 1, "text": "a", "log_prob": -0.5, "top_logprobs": [], "trace": { "saturated": saturated }, "roles": [],
/// # });
/// # let sample: SampleRecord = serde_json::from_value(serde_json::json!({
/// #     "schema_version": 1, "variant": "dynamic", "task": "qa", "doc_id": "0", "doc_index": 0, "repeat": 0, "doc": {}, "target": "a",
/// #     "prompt_sha256": "p", "filtered": {}, "metrics": {},
/// #     "responses": [{ "text": "aaaa", "tokens": [1, 1, 1, 1], "log_prob": -2.0,
/// #         "trace": [token(1.0), token(1.0), token(0.0), token(1.0)] }],
/// # }))?;
/// let mut saturation = Saturation::default();
/// saturation.add(&sample); // four tokens, three of them at a bound
/// assert!(saturation.notes()[0].starts_with("dynamic: the strength is at a bound at 75 % of its 4 traced tokens"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Saturation {
    /// Tokens, and those at a bound; variants in the order in which they came.
    variants: Vec<(String, [usize; 2])>,
    places: BTreeMap<String, usize>,
}

impl Saturation {
    /// Counts the traced tokens of a sample.
    pub fn add(&mut self, sample: &SampleRecord) {
        let tokens = sample.responses.iter().flat_map(|response| &response.trace);
        let (mut all, mut at_bound) = (0, 0);
        for saturated in tokens.filter_map(|token| token.trace.get("saturated").copied().flatten()) {
            all += 1;
            at_bound += usize::from(saturated > 0.5);
        }
        if all == 0 {
            return;
        }
        let next = self.variants.len();
        let place = *self.places.entry(sample.variant.clone()).or_insert(next);
        if place == next {
            self.variants.push((sample.variant.clone(), [0, 0]));
        }
        let [of, count] = &mut self.variants[place].1;
        (*of, *count) = (*of + all, *count + at_bound);
    }

    /// A line for each variant whose strength was that of a bound at most of its tokens.
    pub fn notes(&self) -> Vec<String> {
        let most = self.variants.iter().filter(|(_, [all, at_bound])| at_bound * 2 > *all);
        most.map(|(variant, [all, at_bound])| {
            let percent = 100.0 * *at_bound as f64 / *all as f64;
            format!(
                "{variant}: the strength is at a bound at {percent:.0} % of its {all} traced tokens: there it is fixed and not \
                 solved for, so compare other `bounds`, and `static-proxy`"
            )
        })
        .collect()
    }
}

impl Run {
    /// The strengths of the samples that keep a trace.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`](logitfuse_core::ErrorKind::InvalidData) for a damaged line.
    pub fn saturation(&self) -> Result<Saturation> {
        let mut saturation = Saturation::default();
        for sample in self.samples()? {
            saturation.add(&sample?);
        }
        Ok(saturation)
    }
}
