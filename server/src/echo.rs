//! Prompts that are given back with the log-probability of every token: what evaluations score by.
//!
//! Each position is asked for under the tokens that are given, by the fused distribution at temperature 1.

use std::sync::Arc;

use logitfuse::{ScoreRequest, TokenId, TokenScore};

use crate::{
    app::App,
    choice::{KnownToken, Piece, finite},
    error::ApiError,
    generation::{Job, Message},
    models::ServedModel,
    prompts::Prompts,
    settings::Plan,
    token_texts::TokenTexts,
};

/// A prompt that was scored.
pub(crate) struct Scored {
    /// The prompt's text and tokens.
    pub(crate) prompt: Piece,
    /// The token that greedy decoding has next, where it was asked for, and why the text ends with it.
    pub(crate) next: Option<(Piece, &'static str)>,
}

/// The prompt of a choice without log-probabilities.
pub(crate) fn text(model: &ServedModel, prompts: &Prompts) -> Result<Piece, ApiError> {
    let text = model.pipeline.tokenizer().decode(&prompts[model.base], true)?;
    Ok(Piece { text, ..Piece::default() })
}

/// Scores prompts, whose first `added` tokens are not told. With `next` the row behind each prompt is asked for as well, in the same pass, and the token that greedy
/// decoding has there comes with it: evaluations ask for one token more than they score, of every prompt.
pub(crate) async fn score(
    app: &Arc<App>,
    model: &Arc<ServedModel>,
    plan: &Plan,
    prompts: &[Prompts],
    added: &[usize],
    next: bool,
) -> Result<Vec<Scored>, ApiError> {
    let mut jobs = Vec::new();
    let mut places = Vec::new();
    for (place, prompts) in prompts.iter().enumerate() {
        let tokens = &prompts[model.base];
        let mut given = tokens[1..].to_vec();
        if next {
            given.push(any_token(model)?);
        }
        if given.is_empty() {
            continue;
        }
        // What follows the first token is given, for every source: a text that is echoed is the same for all of them.
        let first = prompts.iter().map(|prompt| prompt[..1].to_vec()).collect::<Vec<_>>();
        let request = ScoreRequest::new(first, [given]).top_logprobs(plan.top_logprobs.max(1)).fusion(&plan.fusion);
        jobs.push(Job::Score(request));
        places.push(place);
    }
    let mut scores: Vec<Vec<TokenScore>> = prompts.iter().map(|_| Vec::new()).collect();
    let mut running = app.submit(model, jobs)?;
    while let Some(message) = running.next().await {
        match message? {
            (sequence, Message::Scored(mut scored)) => {
                scores[places[sequence]] = scored.scores.pop().map(|score| score.tokens).unwrap_or_default();
            }
            (_, Message::Failed(error)) => return Err(ApiError::of(&error)),
            _ => {}
        }
    }
    let told = prompts.iter().zip(added).map(|(prompts, &added)| (&prompts[model.base][..], added));
    told.zip(scores).map(|(told, scores)| assemble(model, plan, told, scores, next)).collect()
}

/// A token to ask about where the row alone is wanted.
fn any_token(model: &ServedModel) -> Result<TokenId, ApiError> {
    let vocabulary = &model.pipeline.session().vocabulary;
    let ids = 0..TokenId::try_from(vocabulary.width()).unwrap_or(TokenId::MAX);
    ids.into_iter().find(|&id| vocabulary.contains(id)).ok_or_else(ApiError::stopped)
}

fn assemble(
    model: &ServedModel,
    plan: &Plan,
    (tokens, added): (&[TokenId], usize),
    mut scores: Vec<TokenScore>,
    next: bool,
) -> Result<Scored, ApiError> {
    let top = |score: &TokenScore| -> Vec<(TokenId, f64)> {
        score.top_logprobs.iter().take(plan.top_logprobs).map(|&(id, log_prob)| (id, finite(log_prob))).collect()
    };
    let behind = if next { scores.pop() } else { None };
    let mut texts = TokenTexts::new(model.pipeline.tokenizer());
    for (place, &id) in tokens.iter().enumerate().skip(added) {
        // Of the first one that is told nothing is known, as far as clients can see.
        let score = place.checked_sub(1).filter(|_| place > added).and_then(|place| scores.get(place));
        let known = KnownToken {
            id,
            log_prob: score.map(|score| finite(score.log_prob)),
            top: score.map(top).unwrap_or_default(),
            ends: false,
        };
        texts.push(id, true, known)?;
    }
    let tokens = texts.finish(usize::MAX / 2)?;
    let text = tokens.iter().map(|(_, text)| text.as_str()).collect();
    let prompt = Piece { text, tokens, fusion: Vec::new() };
    let next = behind.map(|score| {
        let log_prob =
            score.top_logprobs.iter().find(|(id, _)| *id == score.greedy).map(|&(_, log_prob)| finite(log_prob));
        let ends = !plan.ignore_eos && model.ends(score.greedy);
        let known = KnownToken { id: score.greedy, log_prob, top: top(&score), ends };
        let (mut text, mut stopped) = (String::new(), ends);
        if !ends {
            let mut output = model.pipeline.detokenize(&plan.stop).start();
            let delta = output.push(score.greedy)?;
            stopped = delta.stopped.is_some();
            text = delta.text + &output.finish()?;
        }
        let mut texts = TokenTexts::new(model.pipeline.tokenizer());
        texts.push(score.greedy, !ends, known)?;
        let tokens = texts.finish(text.len())?;
        Ok::<_, ApiError>((Piece { text, tokens, fusion: Vec::new() }, if stopped { "stop" } else { "length" }))
    });
    Ok(Scored { prompt, next: next.transpose()? })
}
