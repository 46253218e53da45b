//! A survey as a person reads it.

use std::fmt::Write;

use logitfuse_config::Cell;

use logitfuse_pipeline::{
    profile::Choice, profile::DrafterProfile, profile::Probe, profile::Profile, profile::SourceProfile,
};

/// Models, steps, drafts, probes, and the choice.
pub(crate) fn table(survey: &Survey, cell: Option<&Cell>, temperature: f64) -> String {
    let mut text = String::new();
    let how = if temperature == 0.0 { "greedy".to_owned() } else { format!("temperature {temperature}") };
    let at_once =
        if survey.batch == 1 { "one sequence".to_owned() } else { format!("{} sequences at once", survey.batch) };
    let what = cell.map_or(String::new(), |cell| format!("{} × {}, ", cell.variant, cell.task));
    let _ = writeln!(text, "{what}{at_once}, {how}\n");
    sources(&mut text, &survey.sources);
    step(&mut text, survey);
    drafters(&mut text, survey);
    probes(&mut text, &survey.probes);
    text += &choice(&survey.choice, survey, temperature);
    text
}

fn sources(text: &mut String, sources: &[SourceSurvey]) {
    let rows = sources.first().map_or(0, |source| source.forward_ms.len());
    let name = |source: &SourceSurvey| match &*source.roles.join(", ") {
        roles if roles.is_empty() || *roles == *source.source => source.source.clone(),
        roles => format!("{} ({roles})", source.source),
    };
    let width = sources.iter().map(|source| name(source).chars().count()).max().unwrap_or(0).max(12);
    let head = columns((1..=rows).map(|rows| rows.to_string()));
    let _ = writeln!(text, "ms of a pass by rows{:>pad$}{head}   threads  tokens/s alone", "", pad = width - 12);
    for source in sources {
        let times = columns(source.forward_ms.iter().map(|&ms| milliseconds(ms)));
        let (threads, alone) = (source.threads, rate(source.tokens_per_second));
        let _ = writeln!(text, "  {:<width$}      {times}   {threads:>7}  {alone:>14}", name(source));
    }
    text.push('\n');
}

fn step(text: &mut String, survey: &Survey) {
    let step = &survey.step;
    let waves: Vec<String> = step.waves.iter().map(|wave| wave.join(" + ")).collect();
    let _ = writeln!(text, "ms of a step: {} as planned ({})", milliseconds(step.planned_ms), waves.join(", then "));
    if step.waves.iter().any(|wave| wave.len() > 1) {
        let _ = writeln!(text, "              {} one after another", milliseconds(step.in_turn_ms));
    }
    let _ = writeln!(
        text,
        "fused, no drafts: {} tokens/s{}\n",
        rate(survey.plain_tokens_per_second),
        of_base(survey, survey.plain_tokens_per_second)
    );
}

/// A rate beside that of the base alone.
fn of_base(survey: &Survey, tokens_per_second: f64) -> String {
    let base = survey.sources.iter().find(|source| source.roles.iter().any(|role| role == "base"));
    base.filter(|base| base.tokens_per_second > 0.0).map_or(String::new(), |base| {
        format!(", {:.2} × {} alone", tokens_per_second / base.tokens_per_second, base.source)
    })
}

fn drafters(text: &mut String, survey: &Survey) {
    let longest = survey.drafters.iter().map(|drafter| drafter.costs.round_seconds.len()).max().unwrap_or(1);
    let head = columns((1..longest).map(|length| length.to_string()));
    let width = survey.drafters.iter().map(|drafter| drafter.draft.chars().count()).max().unwrap_or(0);
    let _ = writeln!(text, "tokens/s by tokens per draft{:>pad$}{head}", "", pad = width);
    for drafter in &survey.drafters {
        let _ = writeln!(text, "  {}: {}", drafter.draft, pays(drafter));
        for prediction in &drafter.predictions {
            let rates = columns(prediction.tokens_per_second.iter().map(|&r| rate(r)));
            let known = if prediction.measured { "measured" } else { "" };
            let _ = writeln!(
                text,
                "    acceptance {:.2} {known:<8}{:>pad$}{rates}",
                prediction.acceptance,
                "",
                pad = (width + 4).saturating_sub(4)
            );
        }
    }
    text.push('\n');
}

fn pays(drafter: &DrafterSurvey) -> String {
    match drafter.pays_from {
        Some(from) => format!("pays from an acceptance of {from:.2} on"),
        None => "never pays".to_owned(),
    }
}

fn probes(text: &mut String, probes: &[Probe]) {
    let Some(first) = probes.first() else { return };
    let width = probes.iter().map(|probe| probe.way.chars().count()).max().unwrap_or(0);
    let _ = writeln!(
        text,
        "{:<pad$}  acceptance  predicted  achieved tokens/s",
        format!("{} samples", first.samples),
        pad = width + 2
    );
    for probe in probes {
        let acceptance = probe.acceptance.map_or("-".to_owned(), |a| format!("{a:.2}"));
        let number = |value: Option<f64>| value.map_or("-".to_owned(), rate);
        let (predicted, achieved) = (number(probe.predicted_tokens_per_second), number(probe.tokens_per_second));
        let off = match (probe.predicted_tokens_per_second, probe.tokens_per_second) {
            (Some(predicted), Some(achieved)) => format!("  ({:+.0} %)", 100.0 * (achieved / predicted - 1.0)),
            _ => String::new(),
        };
        let _ = writeln!(text, "  {:<width$}  {acceptance:>10}  {predicted:>9}  {achieved:>8}{off}", probe.way);
    }
    text.push('\n');
}

fn choice(choice: &Choice, survey: &Survey, temperature: f64) -> String {
    let order = if choice.in_turn && survey.step.waves.iter().any(|wave| wave.len() > 1) {
        "\nmodels one after another are faster than in the planned waves; `tokens = \"auto\"` sees that by itself when greedy"
    } else {
        ""
    };
    let Some(draft) = &choice.draft else {
        return format!("choice: no [speculation]; {}{order}", choice.why);
    };
    // Sampled texts must not depend on a clock, so that there `auto` knows less than this table.
    let tokens = if temperature == 0.0 { "\"auto\"".to_owned() } else { choice.tokens.to_string() };
    let best = if temperature == 0.0 { format!("   # {} at this acceptance", choice.tokens) } else { String::new() };
    format!(
        "choice: {} tokens/s{}; {}{order}\n\n[speculation]\ndraft = \"{draft}\"\ntokens = {tokens}{best}",
        rate(choice.tokens_per_second),
        of_base(survey, choice.tokens_per_second),
        choice.why
    )
}

/// Numbers below each other, line by line.
fn columns(numbers: impl Iterator<Item = String>) -> String {
    numbers.fold(String::new(), |mut line, number| {
        let _ = write!(line, "{number:>8}");
        line
    })
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.3}"),
        ms if ms < 100.0 => format!("{ms:.2}"),
        ms => format!("{ms:.1}"),
    }
}

fn rate(tokens_per_second: f64) -> String {
    if tokens_per_second < 100.0 { format!("{tokens_per_second:.1}") } else { format!("{tokens_per_second:.0}") }
}
