//! Our own engine as a contestant that also tells what happened inside.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use logitfuse_config::Config;
use logitfuse_core::{Error, ErrorKind, FusionStrategy, Result};
use logitfuse_engine::{BaseOnly, Cancel, Concurrency, Decoder, Event, Request, Role, Timings};
use logitfuse_onnx::Runtime;
use logitfuse_pipeline::PluginSettings;

use crate::{
    contest::{Contestant, Inside, Task, Turn},
    model::{Model, Threads},
    probe::{Log, Probe, Span, covered},
    stats::median,
};

/// An engine whose sources are probed.
pub(crate) struct Ours {
    engine: Decoder,
    logs: Vec<Log>,
}

impl Ours {
    /// One source and no fusion.
    pub(crate) fn alone(runtime: &Runtime, model: &Model, threads: Threads) -> Result<Self> {
        Self::new(runtime, model, &[threads], Concurrency::Parallel, Arc::new(BaseOnly::new()))
    }

    /// A source for each entry of `threads`, all of the same model; they take the strategy's roles in turn.
    pub(crate) fn new(
        runtime: &Runtime,
        model: &Model,
        threads: &[Threads],
        concurrency: Concurrency,
        strategy: Arc<dyn FusionStrategy>,
    ) -> Result<Self> {
        let roles = &strategy.info().roles;
        let roles: Vec<Role> =
            roles.iter().enumerate().map(|(i, role)| Role::new(&*role.name, i % threads.len())).collect();
        // Every turn has the same prompts, and the peers read them every time.
        let mut builder = Decoder::builder(strategy).concurrency(concurrency).roles(roles).prefix_cache_bytes(0);
        let mut logs = Vec::new();
        for &threads in threads {
            let (source, log) = Probe::new(model.open(runtime, threads)?);
            builder = builder.source(Box::new(source));
            logs.push(log);
        }
        Ok(Self { engine: builder.build()?, logs })
    }

    /// As the product wires an experiment; nothing is told of its inside.
    pub(crate) fn of_config(runtime: &Runtime, config: &Config) -> Result<Self> {
        Ok(Self { engine: config.open(runtime, 0, &PluginSettings::default())?.decoder(), logs: Vec::new() })
    }
}

impl Contestant for Ours {
    fn turn(&mut self, task: &Task) -> Result<Turn> {
        let roles = self.engine.session().bindings.len();
        let prompts: Vec<_> = task.prompts.iter().cycle().take(roles).cloned().collect();
        let mut request = Request::new(prompts).max_new_tokens(task.new_tokens);
        request.ignore_end_of_sequence = true;
        let start = Instant::now();
        let mut marks = Vec::with_capacity(task.new_tokens);
        let mut on_event = |event: Event<'_>| {
            if matches!(event, Event::Token(_)) {
                marks.push(Instant::now());
            }
            ControlFlow::Continue(())
        };
        let done = self.engine.generate(std::slice::from_ref(&request), &Cancel::new(), &mut on_event)?;
        let forwards: Vec<Vec<Span>> = self.logs.iter().map(Log::take).collect();
        let (Some(done), [first, .., last]) = (done.into_iter().next(), &marks[..]) else {
            return Err(Error::new(ErrorKind::Internal, "a turn gave fewer than two tokens"));
        };
        Ok(Turn {
            first_ms: ms(*first - start),
            token_ms: marks.windows(2).map(|pair| ms(pair[1] - pair[0])).collect(),
            inside: inside(&forwards, Span { start: *first, end: *last }, &done.timings),
            tokens: done.tokens,
        })
    }

    fn process(&self) -> u32 {
        std::process::id()
    }
}

fn inside(forwards: &[Vec<Span>], window: Span, timings: &Timings) -> Option<Inside> {
    let wall = (window.end - window.start).as_secs_f64();
    let of_decoding = |spans: &[Span]| spans.iter().copied().filter(|s| s.start >= window.start).collect::<Vec<_>>();
    let first = of_decoding(forwards.first()?);
    let in_forward = covered(forwards.iter().flat_map(|spans| of_decoding(spans)), window).as_secs_f64();
    let fusion = timings.fuse + timings.sample + timings.normalise.iter().sum::<Duration>();
    // The prompt's row is normalised, fused and sampled too, before the window.
    let per_step = fusion.as_secs_f64() / timings.tokens.max(1) as f64;
    Some(Inside {
        forward_ms: median(first.iter().map(|s| ms(s.end - s.start))),
        outside_forward: 1.0 - in_forward / wall,
        fusion: per_step * first.len() as f64 / wall,
        fuse_ms: ms(timings.fuse) / timings.tokens.max(1) as f64,
    })
}

fn ms(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}
