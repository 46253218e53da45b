//! Metrics by name: what each makes of one item.

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_metrics::{
    exact_match::{ExactMatch, ExactMatchConfig},
    question_answering::Normalisation,
    rouge::{Rouge, RougeScores},
};
use serde_json::{Value, json};

use logitfuse_config::{MetricConfig, OutputType};
use logitfuse_pipeline::nearest;

/// A metric of a task.
#[derive(Clone, Debug)]
pub(crate) enum Metric {
    ExactMatch(ExactMatch),
    F1,
    Rouge(Rouge, fn(&RougeScores) -> f64),
    Bleu,
    Chrf,
    ChrfPlusPlus,
    Acc,
    AccNorm,
    AccBytes,
    AccMutualInfo,
    Perplexity,
    WordPerplexity,
    BytePerplexity,
    BitsPerByte,
}

/// Names with the output types that they score, and whether more is better.
const NAMES: [(&str, &[OutputType], bool); 18] = {
    use OutputType::{
        GenerateUntil as Generate, Loglikelihood, LoglikelihoodRolling as Rolling, MultipleChoice as Choice,
    };
    [
        ("exact_match", &[Generate, Choice], true),
        ("f1", &[Generate], true),
        ("rouge1", &[Generate], true),
        ("rouge2", &[Generate], true),
        ("rougeL", &[Generate], true),
        ("rougeLsum", &[Generate], true),
        ("bleu", &[Generate], true),
        ("chrf", &[Generate], true),
        ("chrf++", &[Generate], true),
        ("acc", &[Choice, Loglikelihood], true),
        ("acc_norm", &[Choice], true),
        ("acc_bytes", &[Choice], true),
        ("acc_mutual_info", &[Choice], true),
        ("item_perplexity", &[Loglikelihood], false),
        // lm-eval's name of the same.
        ("perplexity", &[Loglikelihood], false),
        ("word_perplexity", &[Rolling], false),
        ("byte_perplexity", &[Rolling], false),
        ("bits_per_byte", &[Rolling], false),
    ]
};

/// lm-eval's metrics of a task that names none.
pub(crate) fn usual(output: OutputType) -> &'static [&'static str] {
    match output {
        OutputType::GenerateUntil => &["exact_match"],
        OutputType::MultipleChoice => &["acc", "acc_norm"],
        OutputType::Loglikelihood => &["item_perplexity", "acc"],
        OutputType::LoglikelihoodRolling => &["word_perplexity", "byte_perplexity", "bits_per_byte"],
    }
}

/// Whether more is better, by the metric's name.
pub(crate) fn higher_is_better(name: &str) -> bool {
    NAMES.iter().find(|(known, ..)| *known == name).is_none_or(|(.., higher)| *higher)
}

impl Metric {
    /// Finds a metric by its name and reads its options.
    pub(crate) fn new(config: &MetricConfig, output: OutputType) -> Result<Self> {
        let name = config.metric.as_str();
        let fitting = || NAMES.iter().filter(|(_, outputs, _)| outputs.contains(&output)).map(|(name, ..)| *name);
        let all = fitting().collect::<Vec<_>>().join(", ");
        let refuse = |what: String, help: String| Err(Error::new(ErrorKind::InvalidConfig, what).with_help(help));
        match NAMES.iter().find(|(known, ..)| *known == name) {
            None => {
                let help = nearest(name, NAMES.iter().map(|(known, ..)| *known))
                    .map_or_else(|| format!("there are {all}"), |near| format!("did you mean `{near}`?"));
                return refuse(format!("unknown metric `{name}`"), help);
            }
            Some((_, outputs, _)) if !outputs.contains(&output) => {
                return refuse(format!("metric `{name}` does not score this output type"), format!("these do: {all}"));
            }
            Some(_) => {}
        }
        let exact = ExactMatchConfig {
            regexes_to_ignore: config.regexes_to_ignore.clone(),
            ignore_case: config.ignore_case,
            ignore_punctuation: config.ignore_punctuation,
            ignore_numbers: config.ignore_numbers,
        };
        if exact != ExactMatchConfig::default() && name != "exact_match" {
            return refuse(
                format!("metric `{name}` ignores nothing"),
                "ignore_case, ignore_punctuation, ignore_numbers and regexes_to_ignore are options of exact_match"
                    .to_owned(),
            );
        }
        if config.use_stemmer && !name.starts_with("rouge") {
            return refuse(format!("metric `{name}` has no stemmer"), "use_stemmer is an option of rouge".to_owned());
        }
        let rouge = |of| Self::Rouge(Rouge { stem: config.use_stemmer }, of);
        Ok(match name {
            "f1" => Self::F1,
            "rouge1" => rouge(|scores| scores.rouge_1.fmeasure),
            "rouge2" => rouge(|scores| scores.rouge_2.fmeasure),
            "rougeL" => rouge(|scores| scores.rouge_l.fmeasure),
            "rougeLsum" => rouge(|scores| scores.rouge_lsum.fmeasure),
            "bleu" => Self::Bleu,
            "chrf" => Self::Chrf,
            "chrf++" => Self::ChrfPlusPlus,
            "acc" => Self::Acc,
            "acc_norm" => Self::AccNorm,
            "acc_bytes" => Self::AccBytes,
            "acc_mutual_info" => Self::AccMutualInfo,
            "item_perplexity" | "perplexity" => Self::Perplexity,
            "word_perplexity" => Self::WordPerplexity,
            "byte_perplexity" => Self::BytePerplexity,
            "bits_per_byte" => Self::BitsPerByte,
            _ => Self::ExactMatch(ExactMatch::new(&exact)?),
        })
    }

    /// The score of a text against references, of which the best counts; for scores of a corpus, the texts themselves.
    pub(crate) fn of_text(&self, prediction: &str, references: &[String]) -> Result<Value> {
        Ok(match self {
            Self::ExactMatch(exact) => one_or_zero(exact.matches_any(prediction, references)?),
            Self::F1 => json!(Normalisation::Squad.f1(prediction, references)),
            Self::Rouge(rouge, of) => json!(of(&rouge.score_multi(references, prediction))),
            _ => json!([prediction, references]),
        })
    }
}

/// lm-eval's scores are numbers, also those that are right or wrong.
pub(crate) fn one_or_zero(right: bool) -> Value {
    json!(if right { 1.0 } else { 0.0 })
}
