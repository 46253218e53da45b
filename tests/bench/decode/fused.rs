//! (b) Three sources fused against the same three run one after another, and what the loop adds.
//!
//! The three are the same model three times, each with its own session, in the roles of `static-proxy`.

use std::sync::Arc;

use logitfuse_core::Result;
use logitfuse_engine::Concurrency;
use logitfuse_onnx::Spin;
use logitfuse_static_proxy::{Params, StaticProxy};

use crate::{
    Bench,
    contest::{Contest, Contestant, Inside, Task},
    machine::cores,
    model::{Model, Threads},
    ours::Ours,
    report::{Row, Section, Target, Unit},
    say,
    stats::{Ratio, Summary},
};

const CONTEXT: usize = 64;
const ROLES: [&str; 3] = ["base", "expert", "anti"];

/// A way to share the cores among three models.
struct Way {
    name: String,
    threads: [Threads; 3],
    concurrency: Concurrency,
}

impl Way {
    fn new(concurrency: Concurrency, threads: [Threads; 3]) -> Self {
        let how = match &concurrency {
            Concurrency::Parallel => "side by side".to_owned(),
            Concurrency::Sequential => "in turn".to_owned(),
            Concurrency::Waves(waves) => {
                let sizes: Vec<_> = waves.iter().map(|wave| wave.len().to_string()).collect();
                format!("{} at a time", sizes.join(" + "))
            }
        };
        let name = match threads {
            [a, b, c] if a == b && b == c => format!("{how}, {a} each"),
            [a, b, c] => format!("{how}, {a} | {b} | {c}"),
        };
        Self { name, threads, concurrency }
    }
}

pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section { title: "(b) Three sources fused", notes: Vec::new(), rows: Vec::new() };
    for model in &bench.models {
        compare(bench, model, &mut section)?;
    }
    section.notes.extend(
        [
            "A fused token is all three passes, the fusion and the choice; it is compared with three times the forward \
             of a lone source that has all cores, measured in the same rounds.",
            "Loop: the share of the wall-clock time in which no source is in `forward`. It holds the loop, the fusion \
             and the hand-over between threads.",
            "Fusion: time spent on normalising (on every source's thread), fusing and sampling as a share of the \
             wall-clock time, whether or not a forward runs beside it.",
        ]
        .map(str::to_owned),
    );
    Ok(section)
}

fn compare(bench: &Bench, model: &Model, section: &mut Section) -> Result<()> {
    let case = format!("{}, context {CONTEXT}", model.weights);
    let alone = model.plan(&bench.runtime, &ROLES[..1], "none")?.0[0];
    let ways = ways(model.plan(&bench.runtime, &ROLES, "static-proxy")?);

    let mut engines = vec![Ours::alone(&bench.runtime, model, alone)?];
    for way in &ways {
        let strategy = Arc::new(StaticProxy::new(Params { alpha: 1.0, ..Params::default() })?);
        engines.push(Ours::new(&bench.runtime, model, &way.threads, way.concurrency.clone(), strategy)?);
    }
    say(&format!("(b) {case}: one source alone and three in {} ways, {} rounds", ways.len(), bench.effort.rounds));
    let mut refs: Vec<&mut dyn Contestant> = engines.iter_mut().map(|e| e as _).collect();
    let task = Task { prompts: vec![model.prompt(0, CONTEXT)?], new_tokens: bench.effort.new_tokens };
    let contest = Contest::hold(&mut refs, bench.effort.rounds, &task)?;

    let inside = |i: usize, what: fn(&Inside) -> f64| -> Vec<f64> {
        contest.turns[i].iter().filter_map(|turn| turn.inside.as_ref()).map(what).collect()
    };
    let own_forwards: Vec<f64> = inside(0, |inside| 3.0 * inside.forward_ms).into_iter().collect();
    let mut rows = vec![Row::new(
        &case,
        format!("three forwards, each alone: {alone}"),
        Unit::MillisecondsPerToken,
        Summary::of(own_forwards.iter().copied()),
    )];
    let mut shares = Vec::new();
    let names = std::iter::once(format!("alone: {alone}")).chain(
        ways.iter().enumerate().map(|(i, way)| if i == 0 { format!("plan: {}", way.name) } else { way.name.clone() }),
    );
    for (i, name) in names.enumerate() {
        if i > 0 {
            let tokens = contest.turns[i].iter().flat_map(|turn| turn.token_ms.iter().copied());
            let row = Row::new(&case, format!("fused, {name}"), Unit::MillisecondsPerToken, Summary::of(tokens));
            let row = row.compared("sum of own forwards", Ratio::of(&contest.rounds_ms(i), &own_forwards));
            rows.push(if i == 1 { row.target(Target::AtMost(1.0)) } else { row });
        }
        let share = |what: &str, share: fn(&Inside) -> f64| {
            Row::new(&case, format!("{what}, {name}"), Unit::Share, Summary::of(inside(i, share)))
        };
        let loop_share = share("loop", |inside| inside.outside_forward);
        shares.push(if i == 1 { loop_share.target(Target::AtMost(0.02)) } else { loop_share });
        shares.push(share("fusion", |inside| inside.fusion));
    }
    section.rows.extend(rows);
    section.rows.extend(shares);
    Ok(())
}

/// What the product does comes first.
fn ways((threads, concurrency): (Vec<Threads>, Concurrency)) -> Vec<Way> {
    let all = |spin| Threads { count: cores(), spin };
    let single = Threads { count: 1, spin: Spin::Never };
    let mut ways = vec![
        Way::new(Concurrency::Parallel, [single; 3]),
        Way::new(Concurrency::Sequential, [all(Spin::WhileRunning); 3]),
        Way::new(Concurrency::Sequential, [all(Spin::Never); 3]),
    ];
    if let [a, b, c] = threads[..] {
        ways.insert(0, Way::new(concurrency, [a, b, c]));
    }
    ways
}
