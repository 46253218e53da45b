//! The plan as text tables.

use std::fmt::Write;

use logitfuse_config::Cell;

use logitfuse_pipeline::profile::{Choice, DrafterProfile, Probe, Profile, SourceProfile};

use crate::table::TextTable;

/// Models, steps, drafts, probes, and the choice.
pub(crate) fn table(profile: &Profile, cell: Option<&Cell>, temperature: f64) -> String {
    let mut text = String::new();
    let how = if temperature == 0.0 { "greedy".to_owned() } else { format!("temperature {temperature}") };
    let at_once =
        if profile.batch == 1 { "one sequence".to_owned() } else { format!("{} sequences at once", profile.batch) };
    let what = cell.map_or(String::new(), |cell| format!("{} × {}, ", cell.variant, cell.task));
    let _ = writeln!(text, "{what}{at_once}, {how}\n");
    sources(&mut text, &profile.sources);
    step(&mut text, profile);
    drafters(&mut text, profile);
    probes(&mut text, &profile.probes);
    text += &choice(&profile.choice, profile, temperature);
    text
}

fn sources(text: &mut String, sources: &[SourceProfile]) {
    let rows = sources.first().map_or(0, |source| source.forward_ms.len());
    let name = |source: &SourceProfile| match &*source.roles.join(", ") {
        roles if roles.is_empty() || *roles == *source.source => source.source.clone(),
        roles => format!("{} ({roles})", source.source),
    };
    let mut table = vec![line("ms of a pass by rows".to_owned(), (1..=rows).map(|rows| rows.to_string()))];
    table[0].extend(["threads", "tokens/s alone"].map(str::to_owned));
    for source in sources {
        let mut row = line(format!("  {}", name(source)), source.forward_ms.iter().map(|&ms| milliseconds(ms)));
        row.extend([source.threads.to_string(), rate(source.tokens_per_second)]);
        table.push(row);
    }
    let _ = writeln!(text, "{}", numbers(table, 1));
}

fn step(text: &mut String, profile: &Profile) {
    let step = &profile.step;
    let waves: Vec<String> = step.waves.iter().map(|wave| wave.join(" + ")).collect();
    let planned = format!("{} as planned ({})", milliseconds(step.planned_ms), waves.join(", then "));
    let mut times = vec![["ms of a step:".to_owned(), planned]];
    if step.waves.iter().any(|wave| wave.len() > 1) {
        times.push([String::new(), format!("{} one after another", milliseconds(step.in_turn_ms))]);
    }
    let _ = write!(text, "{}", TextTable::new(times).gap(1));
    let _ = writeln!(
        text,
        "fused, no drafts: {} tokens/s{}\n",
        rate(profile.plain_tokens_per_second),
        of_base(profile, profile.plain_tokens_per_second)
    );
}

/// A rate beside that of the base alone.
fn of_base(profile: &Profile, tokens_per_second: f64) -> String {
    let base = profile.sources.iter().find(|source| source.roles.iter().any(|role| role == "base"));
    base.filter(|base| base.tokens_per_second > 0.0).map_or(String::new(), |base| {
        format!(", {:.2} × {} alone", tokens_per_second / base.tokens_per_second, base.source)
    })
}

fn drafters(text: &mut String, profile: &Profile) {
    let longest = profile.drafters.iter().map(|drafter| drafter.costs.round_seconds.len()).max().unwrap_or(1);
    let mut table =
        vec![["tokens/s by tokens per draft", "speed-up above 1", "acceptance"].map(str::to_owned).to_vec()];
    table[0].extend((1..longest).map(|length| length.to_string()));
    for drafter in &profile.drafters {
        let mut names = [format!("  {}", drafter.draft), speed_up(drafter)];
        for prediction in &drafter.predictions {
            let known = if prediction.measured { "measured " } else { "" };
            let mut row = std::mem::take(&mut names).to_vec();
            row.push(format!("{known}{:.2}", prediction.acceptance));
            row.extend(prediction.tokens_per_second.iter().map(|&r| rate(r)));
            table.push(row);
        }
    }
    let _ = writeln!(text, "{}", numbers(table, 2));
}

/// From which acceptance on decoding with these drafts is faster than without.
fn speed_up(drafter: &DrafterProfile) -> String {
    drafter.pays_from.map_or("never".to_owned(), |from| format!("from {from:.2}"))
}

fn probes(text: &mut String, probes: &[Probe]) {
    let Some(first) = probes.first() else { return };
    let samples = format!("{} samples", first.samples);
    let mut table = vec![[&*samples, "acceptance", "predicted", "achieved tokens/s", ""].map(str::to_owned)];
    for probe in probes {
        let acceptance = probe.acceptance.map_or("-".to_owned(), |a| format!("{a:.2}"));
        let number = |value: Option<f64>| value.map_or("-".to_owned(), rate);
        let (predicted, achieved) = (number(probe.predicted_tokens_per_second), number(probe.tokens_per_second));
        let off = match (probe.predicted_tokens_per_second, probe.tokens_per_second) {
            (Some(predicted), Some(achieved)) => format!("({:+.0} %)", 100.0 * (achieved / predicted - 1.0)),
            _ => String::new(),
        };
        table.push([format!("  {}", probe.way), acceptance, predicted, achieved, off]);
    }
    let _ = writeln!(text, "{}", TextTable::new(table).right(1..5));
}

fn choice(choice: &Choice, profile: &Profile, temperature: f64) -> String {
    let order = if choice.in_turn && profile.step.waves.iter().any(|wave| wave.len() > 1) {
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
        of_base(profile, choice.tokens_per_second),
        choice.why
    )
}

fn line(name: String, numbers: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(name).chain(numbers).collect()
}

/// A table with a head, its columns from this one on aligned as numbers.
fn numbers(rows: Vec<Vec<String>>, from: usize) -> TextTable {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    TextTable::new(rows).right(from..columns)
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
