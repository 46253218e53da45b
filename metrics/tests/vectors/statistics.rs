//! Statistics of lm-eval, scipy, statsmodels and of an independent `ChaCha8`.

use logitfuse_metrics::{
    gap::{GapScores, gap_closed},
    statistics::{Bootstrap, Interval, McNemar, Summary, holm, wilson},
};
use serde_json::Value;

use crate::{Comparison, bits, index, indices, numbers, rows};

#[test]
fn statistics_are_those_of_lm_eval_scipy_and_statsmodels() {
    let mut comparison = Comparison::default();
    for row in rows("statistics") {
        let number = |key: &str| row[key].as_f64().unwrap();
        if row["scores"].is_array() {
            let scores = numbers(&row["scores"]);
            let ours = Summary::of(&scores).unwrap();
            comparison.close(&row, ours.mean, number("mean"), 1e-14);
            comparison.close(&row, ours.stderr.unwrap(), number("stderr"), 1e-14);
            if row["clusters"].is_array() {
                let ours = Summary::clustered(&scores, &indices(&row["clusters"])).unwrap().unwrap();
                comparison.close(&row, ours.stderr.unwrap(), number("clustered"), 1e-12);
            }
        } else if row["wilson"].is_array() {
            let ours = wilson(index(&row["successes"]), index(&row["n"]), number("confidence")).unwrap().unwrap();
            ends(&mut comparison, &row, ours, &row["wilson"], 1e-13);
        } else if row["p_value"].is_number() {
            let ours = McNemar::of_counts(index(&row["only_a"]), index(&row["only_b"])).p_value;
            let theirs = number("p_value");
            // Relative, for they go down to 1e-300; below, both come to 0 sooner or later.
            let error = if theirs < 1e-290 { ours } else { ours / theirs - 1.0 };
            comparison.close(&row, error, 0.0, 1e-9);
        } else if row["p_values"].is_array() {
            for (ours, theirs) in holm(&numbers(&row["p_values"])).unwrap().into_iter().zip(numbers(&row["holm"])) {
                comparison.close(&row, ours, theirs, 1e-14);
            }
        }
    }
    comparison.finish(600);
}

#[test]
fn the_bootstrap_draws_and_summarises_as_its_specification_in_python() {
    let mut comparison = Comparison::default();
    for row in rows("statistics").into_iter().filter(|row| row["draws"].is_number()) {
        let seed = row["seed"].as_u64().unwrap();
        let bootstrap = Bootstrap { draws: index(&row["draws"]), seed, ..Bootstrap::default() };
        let scores = |key: &str| bits(&row[key]).into_iter().map(|bit| f64::from(u8::from(bit))).collect::<Vec<_>>();
        let (base, fused, tuned) = (scores("base"), scores("fused"), scores("tuned"));
        let mut drawn = Vec::new();
        let distribution = bootstrap
            .distribution(fused.len(), |items| {
                drawn.push(items.to_vec());
                items.iter().map(|i| fused[*i]).sum::<f64>() / items.len() as f64
            })
            .unwrap();
        let (first, last) = (indices(&row["first"]), indices(&row["last"]));
        comparison.check(&"first draw", &drawn[0][..first.len()], &first);
        let end = drawn.last().unwrap();
        comparison.check(&"last draw", &end[end.len() - last.len()..], &last);
        comparison.close(&"spread", distribution.stderr().unwrap(), row["spread"].as_f64().unwrap(), 1e-12);
        ends(&mut comparison, &"mean", bootstrap.mean(&fused).unwrap().interval, &row["mean"], 1e-12);
        let difference = bootstrap.difference(&fused, &base).unwrap();
        ends(&mut comparison, &"difference", difference.interval, &row["difference"], 1e-12);
        let gap = gap_closed(GapScores { fused: &fused, base: &base, tuned: &tuned }, &bootstrap).unwrap();
        comparison.check(&"defined", gap.recovered.is_some(), row["gap"].is_array());
        if let Some(recovered) = gap.recovered {
            ends(&mut comparison, &"gap closed", recovered.interval, &row["gap"], 1e-12);
        }
    }
    comparison.finish(50);
}

#[test]
fn percentile_intervals_are_scipys_up_to_the_noise_of_the_draws() {
    let mut comparison = Comparison::default();
    for row in rows("statistics").into_iter().filter(|row| row["scipy"].is_array()) {
        let sample = numbers(&row["sample"]);
        let bootstrap = Bootstrap { draws: 40_000, ..Bootstrap::default() };
        let (theirs, stderr) = (numbers(&row["scipy"]), row["scipy_stderr"].as_f64().unwrap());
        let ours = bootstrap.mean(&sample).unwrap().interval;
        // A 2.5 % quantile of 40 000 draws has a standard error of about 0.013 of theirs; two are compared.
        comparison.close(&"low", (ours.low - theirs[0]) / stderr, 0.0, 0.1);
        comparison.close(&"high", (ours.high - theirs[1]) / stderr, 0.0, 0.1);
    }
    comparison.finish(4);
}

fn ends(comparison: &mut Comparison, what: &impl std::fmt::Debug, ours: Interval, theirs: &Value, tolerance: f64) {
    let theirs = numbers(theirs);
    comparison.close(&("low", what), ours.low, theirs[0], tolerance);
    comparison.close(&("high", what), ours.high, theirs[1], tolerance);
}
