//! Samples of `run` in one continuous batch.

use std::{collections::BTreeMap, ops::ControlFlow};

use logitfuse_core::Result;
use logitfuse_engine::{Cancel, Decoder, Event, FinishReason, TokenReport};
use logitfuse_pipeline::{Pipeline, Sample, is_plugin_failure};
use serde_json::Value;

use crate::{args::PrintArgs, record::RecordNames};

/// A finished sample.
pub(crate) struct FinishedSample {
    pub(crate) id: String,
    pub(crate) tokens: usize,
    /// As JSON, with what the flags ask for.
    pub(crate) record: Value,
    /// Whether the strategy's plugin failed, which the record says.
    pub(crate) failed: bool,
}

/// Generates for all samples, `limit` at a time, and hands each to `done` in the order of the list: a sample that ends
/// early waits for those before it, so that what is written does not depend on `limit`. Returns false if it was
/// interrupted; samples that were not handed over are as if they had not begun.
pub(crate) fn samples(
    pipeline: &Pipeline,
    decoder: &mut Decoder,
    todo: &[(usize, &Sample)],
    limit: usize,
    print: PrintArgs,
    cancel: &Cancel,
    done: &mut dyn FnMut(FinishedSample) -> Result<()>,
) -> Result<bool> {
    // One that cannot be made is an error when its turn comes: samples before it are finished first.
    let request = |&(index, sample): &(usize, &Sample)| {
        let mut request = pipeline.request_for(index, &sample.fields).map_err(|e| e.context(&sample.id))?;
        if print.trace {
            request.top_logprobs = 3;
            request.trace = true;
        }
        Ok(request)
    };
    let mut requests = todo.iter().map(request).collect::<Vec<_>>().into_iter();
    let mut tokens: BTreeMap<usize, Vec<TokenReport>> = BTreeMap::new();
    let mut waiting: BTreeMap<usize, FinishedSample> = BTreeMap::new();
    let mut next = 0;
    let (mut failed, mut refused) = (None, None);
    let labels = RecordNames::of(pipeline);
    let mut on_event = |event: Event<'_>| {
        match event {
            Event::Token(report) if print.trace => tokens.entry(report.request).or_default().push(report.clone()),
            Event::Done { generation, .. } if generation.finish == FinishReason::Cancelled => {}
            Event::Done { request, generation } => {
                let (index, sample) = todo[request];
                let tokens = tokens.remove(&request).unwrap_or_default();
                let record = labels.sample(index, sample, &generation, print, &tokens);
                let (id, tokens) = (sample.id.clone(), generation.tokens.len());
                waiting.insert(request, FinishedSample { id, tokens, record, failed: false });
            }
            Event::Failed { request, error } if is_plugin_failure(&error) => {
                let (index, sample) = todo[request];
                let record = labels.failed(index, sample, &error);
                waiting.insert(request, FinishedSample { id: sample.id.clone(), tokens: 0, record, failed: true });
            }
            Event::Failed { request, error } => {
                refused.get_or_insert_with(|| error.context(&todo[request].1.id));
            }
            _ => {}
        }
        while let Some(finished) = waiting.remove(&next) {
            next += 1;
            if let Err(e) = done(finished) {
                failed = Some(e);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let result = decoder.generate_stream(&mut requests, limit, cancel, &mut on_event);
    if let Some(e) = failed.or(refused) {
        return Err(e);
    }
    match result {
        // Its sample says so.
        Err(e) if is_plugin_failure(&e) => {}
        result => drop(result?),
    }
    Ok(next == todo.len())
}
