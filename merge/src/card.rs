//! The model card of a merged model.

use std::fmt::Write;

use crate::{
    merge::Merged,
    parents::Opened,
    recipe::{Method, Recipe, Rescale, Sparse},
};

/// A parent's files, and what it says of its licence.
pub(crate) struct Hashed {
    pub(crate) name: String,
    pub(crate) licence: Option<String>,
    pub(crate) files: Vec<(String, String)>,
}

pub(crate) fn write(recipe: &Recipe, parents: &[Opened], hashed: &[Hashed], merged: &Merged) -> String {
    let mut card = String::new();
    let licences: Vec<Option<&str>> = hashed.iter().map(|parent| parent.licence.as_deref()).collect();
    let one_licence =
        licences.first().copied().flatten().filter(|one| licences.iter().all(|other| *other == Some(*one)));
    // Writing to a string cannot fail.
    let _ = write_all(&mut card, recipe, parents, hashed, merged, one_licence);
    card
}

fn write_all(
    card: &mut String,
    recipe: &Recipe,
    parents: &[Opened],
    hashed: &[Hashed],
    merged: &Merged,
    one_licence: Option<&str>,
) -> std::fmt::Result {
    writeln!(card, "---")?;
    if let Some(licence) = one_licence {
        writeln!(card, "license: {}", cell(licence))?;
    }
    writeln!(card, "base_model_relation: merge\ntags:\n- merge\n- onnx\n- logitfuse\n---\n")?;
    let names: Vec<String> = recipe.experts.iter().map(|expert| format!("`{}`", cell(&expert.name))).collect();
    writeln!(card, "# {} merged by `{}`\n", names.join(", "), recipe.method.name())?;
    writeln!(
        card,
        "Made by `logitfuse merge` {} from the weights of the ONNX models below; `merge.toml` is the recipe. Nothing was trained, and \
         nothing is known of this model beyond its parents: evaluate it.\n",
        env!("CARGO_PKG_VERSION")
    )?;
    writeln!(card, "## Method\n\n{}\n", equation(recipe.method))?;

    writeln!(card, "| parent | as | weight | density | licence |\n|---|---|---|---|---|")?;
    let is_base = |i: usize| recipe.base.is_some() && i == 0;
    for (i, (opened, hashed)) in parents.iter().zip(hashed).enumerate() {
        let parent = &opened.parent;
        let sparse = matches!(recipe.method, Method::Ties(_) | Method::DareLinear(_) | Method::DareTies(_));
        let (role, weight, density) = match (is_base(i), recipe.method) {
            (true, _) => ("base", String::new(), String::new()),
            (false, Method::Slerp { .. }) => ("expert", String::new(), String::new()),
            (false, _) if sparse => ("expert", parent.weight.to_string(), parent.density.to_string()),
            (false, _) => ("expert", parent.weight.to_string(), String::new()),
        };
        let licence = hashed.licence.as_deref().map_or("not stated".to_owned(), cell);
        writeln!(
            card,
            "| `{}` (`{}`) | {role} | {weight} | {density} | {licence} |",
            cell(&parent.name),
            cell(&parent.written)
        )?;
    }
    if one_licence.is_none() {
        writeln!(
            card,
            "\nThe parents do not all state the same licence: what this model may be used for is for you to find out."
        )?;
    }
    writeln!(
        card,
        "\n{} tensors were merged, in fp32 with sums in fp64; {} that all parents have alike were copied. Configuration and tokenizer are \
         those of `{}`.",
        merged.merged,
        merged.copied,
        cell(&hashed[0].name)
    )?;
    if let Some(lost) = &merged.requantised {
        writeln!(card, "\n## Requantisation\n")?;
        let schemes: Vec<String> = lost.schemes.iter().map(|(scheme, n)| format!("{n} as {scheme}")).collect();
        writeln!(
            card,
            "{} tensors were dequantised, merged and quantised again: {}. Relative to the merged weights the error is {:.3e} (root mean \
             square over all elements), {:.3e} at most in one tensor (`{}`); the largest error of an element is {:.3e}.",
            lost.tensors,
            schemes.join("; "),
            lost.relative_rms,
            lost.worst.1,
            cell(&lost.worst.0),
            lost.largest
        )?;
    }
    writeln!(card, "\n## Parents' files\n\n| parent | file | sha256 |\n|---|---|---|")?;
    for parent in hashed {
        for (file, sum) in &parent.files {
            writeln!(card, "| `{}` | `{}` | `{sum}` |", cell(&parent.name), cell(file))?;
        }
    }
    Ok(())
}

/// What is computed, with the values of this recipe.
fn equation(method: Method) -> String {
    let rescale = |sparse: Sparse| match sparse.rescale {
        Rescale::None => "not rescaled",
        Rescale::Density => "multiplied with 1 / density",
        Rescale::L1 => "multiplied so that its magnitudes sum to those of the whole delta",
    };
    let divided = |normalize: bool| if normalize { ", divided by the sum of the weights that took part" } else { "" };
    match method {
        Method::Linear { normalize } => {
            format!("The weighted sum of the experts{} (arXiv 2203.05482).", divided(normalize))
        }
        Method::TaskArithmetic { lambda, normalize } => format!(
            "base + λ Σ weight · (expert − base) with λ = {lambda}{} (task arithmetic, arXiv 2212.04089).",
            divided(normalize)
        ),
        Method::Ties(sparse) => format!(
            "base + λ · merged delta with λ = {}. Of each tensor's delta (expert − base) the share `density` of largest magnitude stays, {}; \
             per element the deltas with the sign of their weighted sum are added{} (TIES, arXiv 2306.01708).",
            sparse.lambda,
            rescale(sparse),
            divided(sparse.normalize)
        ),
        Method::DareLinear(sparse) | Method::DareTies(sparse) => format!(
            "base + λ · merged delta with λ = {}. Each element of a delta (expert − base) stays with probability `density`, {}, seed {} (DARE, \
             arXiv 2311.03099); the weighted deltas{} are added{}.",
            sparse.lambda,
            rescale(sparse),
            sparse.seed,
            if matches!(method, Method::DareTies(_)) {
                " that have the sign of their sum (TIES, arXiv 2306.01708)"
            } else {
                ""
            },
            divided(sparse.normalize)
        ),
        Method::Slerp { t } => format!(
            "Spherical interpolation of each tensor, t = {t} from the base (0) to the expert (1); almost parallel tensors linearly."
        ),
    }
}

/// Text of others, as it may stand in a cell of a table or a line of front matter.
fn cell(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).map(|c| if matches!(c, '|' | '`') { '\'' } else { c }).collect()
}
