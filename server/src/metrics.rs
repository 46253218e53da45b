//! What is counted, for `/metrics`: labels are routes, statuses, models and sources, of which there are as many as the server
//! has, whatever is asked.

use std::{
    sync::atomic::{AtomicI64, AtomicU64},
    time::Duration,
};

use logitfuse::{Generation, engine::Timings};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::models::ServedModel;

type Labels = Vec<(&'static str, String)>;
type Seconds = Counter<f64, AtomicU64>;

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    pub(crate) waiting: Gauge<i64, AtomicI64>,
    pub(crate) running: Gauge<i64, AtomicI64>,
    first_token: Family<Labels, Histogram>,
    next_token: Family<Labels, Histogram>,
    alpha: Family<Labels, Histogram>,
    prompt_tokens: Family<Labels, Counter>,
    reused_tokens: Family<Labels, Counter>,
    tokens: Family<Labels, Counter>,
    drafted: Family<Labels, Counter>,
    accepted: Family<Labels, Counter>,
    source_seconds: Family<Labels, Seconds>,
    fuse_seconds: Family<Labels, Seconds>,
    sample_seconds: Family<Labels, Seconds>,
}

/// What is counted of one model's sequences.
#[derive(Clone)]
pub(crate) struct ModelMetrics {
    pub(crate) first_token: Histogram,
    pub(crate) next_token: Histogram,
    pub(crate) alpha: Histogram,
}

const FIRST_TOKEN: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
const NEXT_TOKEN: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0];
const ALPHA: [f64; 13] = [-1.0, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0];

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("logitfuse");
        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
            ($name:literal, $help:literal, seconds, $metric:expr) => {{
                let metric = $metric;
                registry.register_with_unit($name, $help, Unit::Seconds, metric.clone());
                metric
            }};
        }
        let histogram = |buckets: fn() -> Histogram| Family::<Labels, Histogram>::new_with_constructor(buckets);
        Self {
            requests: register!("requests", "Answers by route and status", Family::default()),
            refused: register!("refused", "Requests that were not begun, by reason", Family::default()),
            waiting: register!("sequences_waiting", "Sequences in the queue", Gauge::default()),
            running: register!("sequences_running", "Sequences that are decoded in one batch", Gauge::default()),
            first_token: register!(
                "time_to_first_token",
                "From the request to its first token, waiting included",
                seconds,
                histogram(|| Histogram::new(FIRST_TOKEN))
            ),
            next_token: register!(
                "inter_token_latency",
                "From one token of a sequence to the next",
                seconds,
                histogram(|| Histogram::new(NEXT_TOKEN))
            ),
            alpha: register!(
                "alpha",
                "The strength of the fusion at tokens whose request asks for a trace",
                histogram(|| Histogram::new(ALPHA))
            ),
            prompt_tokens: register!("prompt_tokens", "Prompt tokens of the base", Family::default()),
            reused_tokens: register!(
                "reused_prompt_tokens",
                "Those that another prompt had run before",
                Family::default()
            ),
            tokens: register!("generated_tokens", "Generated and scored tokens", Family::default()),
            drafted: register!("drafted_tokens", "Tokens that were drafted", Family::default()),
            accepted: register!("accepted_tokens", "Drafted tokens that were accepted", Family::default()),
            source_seconds: register!("source", "Time in a model's passes", seconds, Family::default()),
            fuse_seconds: register!("fuse", "Time in the strategy", seconds, Family::default()),
            sample_seconds: register!("sample", "Time for processors and sampling", seconds, Family::default()),
            registry,
        }
    }

    /// The metrics of a model's tokens, looked up once.
    pub(crate) fn of_model(&self, name: &str) -> ModelMetrics {
        let labels = model(name);
        ModelMetrics {
            first_token: self.first_token.get_or_create(&labels).clone(),
            next_token: self.next_token.get_or_create(&labels).clone(),
            alpha: self.alpha.get_or_create(&labels).clone(),
        }
    }

    pub(crate) fn answered(&self, route: &str, status: u16) {
        self.requests.get_or_create(&vec![("route", route.to_owned()), ("status", status.to_string())]).inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&vec![("reason", reason.to_owned())]).inc();
    }

    /// What a text cost.
    pub(crate) fn generated(&self, of: &ServedModel, generation: &Generation) {
        let labels = model(&of.name);
        let timings = &generation.timings;
        self.drafted.get_or_create(&labels).inc_by(timings.drafted as u64);
        self.accepted.get_or_create(&labels).inc_by(timings.accepted as u64);
        self.spent(of, timings);
    }

    /// Where the time of a text or of a score went.
    pub(crate) fn spent(&self, of: &ServedModel, timings: &Timings) {
        let labels = model(&of.name);
        let base = |tokens: &[usize]| tokens.get(of.base_source).copied().unwrap_or(0) as u64;
        self.prompt_tokens.get_or_create(&labels).inc_by(base(&timings.prefill_tokens));
        self.reused_tokens.get_or_create(&labels).inc_by(base(&timings.reused_tokens));
        self.tokens.get_or_create(&labels).inc_by(timings.tokens as u64);
        self.fuse_seconds.get_or_create(&labels).inc_by(timings.fuse.as_secs_f64());
        self.sample_seconds.get_or_create(&labels).inc_by(timings.sample.as_secs_f64());
        for (phase, times) in [("prompt", &timings.prefill), ("generation", &timings.forward)] {
            for (info, time) in of.pipeline.sources().zip(times) {
                if *time > Duration::ZERO {
                    let labels = vec![("source", info.name.clone()), ("phase", phase.to_owned())];
                    self.source_seconds.get_or_create(&labels).inc_by(time.as_secs_f64());
                }
            }
        }
    }

    /// Everything, as OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn model(name: &str) -> Labels {
    vec![("model", name.to_owned())]
}
