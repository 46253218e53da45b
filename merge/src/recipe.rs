//! A recipe's TOML: read, checked, every fault with its line.

use std::{
    fmt, fs,
    ops::Range,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use toml::Spanned;

/// A recipe is some lines; what is larger is no recipe.
const LARGEST: u64 = 1 << 20;
/// Parents of one merge. Each costs a buffer and a pass over its files.
const MOST_EXPERTS: usize = 64;

/// What to merge, and how.
///
/// ```
/// use logitfuse_merge::{Method, Recipe};
///
/// let recipe = Recipe::parse("merge.toml".as_ref(), r#"
///     method = "task_arithmetic"
///     lambda = 0.4
///     [base]
///     model = "models/S"
///     [[expert]]
///     model = "models/S-math"
///     [[expert]]
///     model = "models/S-qa"
///     weight = 0.5
/// "#)?;
/// assert_eq!(recipe.experts[1].name, "S-qa");
/// assert!(matches!(recipe.method, Method::TaskArithmetic { lambda: 0.4, normalize: false }));
///
/// let wrong = Recipe::parse("merge.toml".as_ref(), "method = \"linear\"\nlamda = 1.0\n").unwrap_err();
/// assert!(wrong.to_string().starts_with("merge.toml:2:1: unknown field `lamda`"));
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The file's text.
    pub text: String,
    /// How the weights are merged.
    pub method: Method,
    /// What the experts are deltas of; `linear` has none.
    pub base: Option<Parent>,
    /// What is merged.
    pub experts: Vec<Parent>,
}

/// A model that takes part.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    /// What it is called: in messages, in the model card, and where random numbers are drawn for it.
    pub name: String,
    /// As the recipe has it.
    pub written: String,
    /// A folder or an ONNX file, from where the command runs.
    pub path: PathBuf,
    /// Which of a folder's models.
    pub variant: Option<String>,
    /// Factor of its weights or of its delta.
    pub weight: f64,
    /// Share of its delta's elements that stay.
    pub density: f64,
    /// `file:line:column` of its path.
    pub place: String,
}

/// How weights are merged. Names and defaults are mergekit's, where it has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// [Weighted mean](crate::arithmetic::linear).
    Linear {
        /// Divides the weights by their sum.
        normalize: bool,
    },
    /// [Sum of deltas](crate::arithmetic::task_arithmetic).
    TaskArithmetic {
        /// Factor of the sum.
        lambda: f64,
        /// Divides the weights by their sum.
        normalize: bool,
    },
    /// [Trim, elect signs, merge](crate::arithmetic::ties).
    Ties(Sparse),
    /// [Drop, rescale](crate::arithmetic::dare), add.
    DareLinear(Sparse),
    /// [Drop, rescale](crate::arithmetic::dare), elect signs, merge.
    DareTies(Sparse),
    /// [Spherical interpolation](crate::arithmetic::slerp).
    Slerp {
        /// From the base, 0, to the expert, 1.
        t: f64,
    },
}

/// How deltas are thinned out and added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sparse {
    /// Factor of the merged delta.
    pub lambda: f64,
    /// Divides by the weights that took part.
    pub normalize: bool,
    /// What the elements that stay are multiplied with.
    pub rescale: Rescale,
    /// Of the random numbers.
    pub seed: u64,
}

/// What the elements of a delta that stay are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rescale {
    /// Nothing.
    None,
    /// `1 / density`: the delta is the same on average (the DARE paper).
    Density,
    /// What restores the sum of magnitudes of each tensor (mergekit 0.1.5).
    L1,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MethodName {
    Linear,
    TaskArithmetic,
    Ties,
    DareLinear,
    DareTies,
    Slerp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: Option<Spanned<i64>>,
    method: MethodName,
    lambda: Option<Spanned<f64>>,
    normalize: Option<Spanned<bool>>,
    density: Option<Spanned<f64>>,
    rescale: Option<Spanned<Rescale>>,
    seed: Option<Spanned<u64>>,
    t: Option<Spanned<f64>>,
    base: Option<Spanned<WrittenBase>>,
    #[serde(default)]
    expert: Vec<Spanned<WrittenExpert>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBase {
    model: Spanned<String>,
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenExpert {
    model: Spanned<String>,
    variant: Option<String>,
    name: Option<Spanned<String>>,
    weight: Option<Spanned<f64>>,
    density: Option<Spanned<f64>>,
}

impl Recipe {
    /// Reads a file; paths in it begin at its folder.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::InvalidConfig`] with file, line and column of what is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let failed = |kind, what: &dyn fmt::Display| {
            Error::new(kind, format!("{shown}: {what}")).with_help("name a recipe; `logitfuse merge --help` shows one")
        };
        let metadata = fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => failed(ErrorKind::NotFound, &"no such file"),
            _ => failed(ErrorKind::Io, &e),
        })?;
        if !metadata.is_file() {
            return Err(failed(ErrorKind::InvalidConfig, &"is no regular file"));
        }
        if metadata.len() > LARGEST {
            return Err(failed(ErrorKind::InvalidConfig, &"is larger than 1 MiB"));
        }
        let bytes = fs::read(path).map_err(|e| failed(ErrorKind::Io, &e))?;
        let text = String::from_utf8(bytes).map_err(|e| failed(ErrorKind::InvalidConfig, &e.utf8_error()))?;
        Self::parse(path, &text)
    }

    /// Reads a recipe's text. `path` is what messages call it, and the file whose folder paths begin at.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let source = Source { path, text };
        let written: Written = toml::from_str(text).map_err(|e| {
            let help = "`logitfuse merge --help` shows a recipe, docs/merge.md lists the keys";
            source.wrong(&e.span().unwrap_or(0..0), e.message(), help)
        })?;
        written.check(&source)
    }

    /// The base, if there is one, and the experts.
    pub fn parents(&self) -> impl Iterator<Item = &Parent> {
        self.base.iter().chain(&self.experts)
    }
}

impl Method {
    /// As the recipe has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::TaskArithmetic { .. } => "task_arithmetic",
            Self::Ties(_) => "ties",
            Self::DareLinear(_) => "dare_linear",
            Self::DareTies(_) => "dare_ties",
            Self::Slerp { .. } => "slerp",
        }
    }
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, span: &Range<usize>) -> String {
        let before = &self.text[..self.text.floor_char_boundary(span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
        format!("{}:{line}:{column}", self.path.display())
    }

    fn wrong(&self, span: &Range<usize>, what: &str, help: &str) -> Error {
        Error::new(ErrorKind::InvalidConfig, format!("{}: {what}", self.place(span))).with_help(help)
    }

    fn finite(&self, key: &str, value: &Spanned<f64>) -> Result<f64> {
        let number = *value.get_ref();
        if number.is_finite() {
            return Ok(number);
        }
        Err(self.wrong(&value.span(), &format!("`{key}` is {number}"), "write a finite number"))
    }

    fn share(&self, key: &str, value: &Spanned<f64>) -> Result<f64> {
        let number = *value.get_ref();
        if (0.0..=1.0).contains(&number) {
            return Ok(number);
        }
        Err(self.wrong(&value.span(), &format!("`{key}` is {number}"), "it is a share: write a number from 0 to 1"))
    }

    /// A key that the method has no use for looks as if it had worked.
    fn unused<T>(&self, key: &str, value: Option<&Spanned<T>>, method: &str) -> Result<()> {
        let Some(value) = value else { return Ok(()) };
        let what = format!("`{key}` has no effect with method `{method}`");
        Err(self.wrong(&value.span(), &what, "take the key away, or choose another method"))
    }
}

impl Written {
    fn check(self, source: &Source<'_>) -> Result<Recipe> {
        if let Some(schema) = self.schema.as_ref().filter(|schema| *schema.get_ref() != 1) {
            let what = format!("schema {} is not known", schema.get_ref());
            return Err(source.wrong(&schema.span(), &what, "write `schema = 1`, or update logitfuse"));
        }
        let method = self.method(source)?;
        let base = match (&self.base, method) {
            (Some(base), Method::Linear { .. }) => {
                let what = "method `linear` has no base";
                return Err(source.wrong(&base.span(), what, "list it as an `[[expert]]` with a weight"));
            }
            (None, Method::Linear { .. }) => None,
            (None, _) => {
                let what = format!("method `{}` needs a [base]", method.name());
                return Err(source.wrong(&(0..0), &what, "name the model that the experts were tuned from"));
            }
            (Some(base), _) => {
                let WrittenBase { model, variant } = base.get_ref();
                Some(source.parent(model, variant.clone(), None, 1.0, 1.0)?)
            }
        };
        let experts = self.experts(source, method)?;
        Ok(Recipe { text: source.text.to_owned(), method, base, experts })
    }

    fn method(&self, source: &Source<'_>) -> Result<Method> {
        let flag = |value: &Option<Spanned<bool>>, default| value.as_ref().map_or(default, |value| *value.get_ref());
        let lambda = || self.lambda.as_ref().map_or(Ok(1.0), |value| source.finite("lambda", value));
        let seed = self.seed.as_ref().map_or(0, |seed| *seed.get_ref());
        let rescale = |default| self.rescale.as_ref().map_or(default, |rescale| *rescale.get_ref());
        let sparse = |normalize, default| {
            let normalize = flag(&self.normalize, normalize);
            Ok::<_, Error>(Sparse { lambda: lambda()?, normalize, rescale: rescale(default), seed })
        };
        let method = match self.method {
            MethodName::Linear => Method::Linear { normalize: flag(&self.normalize, true) },
            MethodName::TaskArithmetic => {
                Method::TaskArithmetic { lambda: lambda()?, normalize: flag(&self.normalize, false) }
            }
            MethodName::Ties => Method::Ties(sparse(true, Rescale::None)?),
            MethodName::DareLinear => Method::DareLinear(sparse(false, Rescale::Density)?),
            MethodName::DareTies => Method::DareTies(sparse(false, Rescale::Density)?),
            MethodName::Slerp => {
                let help = "write `t = 0.5` for the middle between base and expert";
                let t = self.t.as_ref().ok_or_else(|| source.wrong(&(0..0), "method `slerp` needs `t`", help))?;
                Method::Slerp { t: source.share("t", t)? }
            }
        };
        let name = method.name();
        let (sparse, drawn) = match method {
            Method::Ties(_) => (true, false),
            Method::DareLinear(_) | Method::DareTies(_) => (true, true),
            _ => (false, false),
        };
        if !sparse {
            source.unused("density", self.density.as_ref(), name)?;
            source.unused("rescale", self.rescale.as_ref(), name)?;
        }
        if !drawn {
            source.unused("seed", self.seed.as_ref(), name)?;
        }
        match method {
            Method::Slerp { .. } => source.unused("normalize", self.normalize.as_ref(), name)?,
            _ => source.unused("t", self.t.as_ref(), name)?,
        }
        if matches!(method, Method::Slerp { .. } | Method::Linear { .. }) {
            source.unused("lambda", self.lambda.as_ref(), name)?;
        }
        Ok(method)
    }

    fn experts(&self, source: &Source<'_>, method: Method) -> Result<Vec<Parent>> {
        let name = method.name();
        let density = match method {
            Method::Ties(_) => Some(0.2),
            _ => None,
        };
        let shared = self.density.as_ref().map(|density| source.share("density", density)).transpose()?.or(density);
        let mut experts: Vec<Parent> = Vec::new();
        for written in &self.expert {
            let expert = written.get_ref();
            let density = match method {
                Method::Ties(_) | Method::DareLinear(_) | Method::DareTies(_) => {
                    let own = expert.density.as_ref().map(|density| source.share("density", density)).transpose()?;
                    own.or(shared).ok_or_else(|| {
                        let what = format!("method `{name}` needs a `density` for this expert");
                        let help = "write the share of its delta that stays: `density = 0.1` is the DARE paper's drop rate of 0.9";
                        source.wrong(&expert.model.span(), &what, help)
                    })?
                }
                _ => {
                    source.unused("density", expert.density.as_ref(), name)?;
                    1.0
                }
            };
            if matches!(method, Method::Slerp { .. }) {
                source.unused("weight", expert.weight.as_ref(), name)?;
            }
            let weight = expert.weight.as_ref().map_or(Ok(1.0), |weight| source.finite("weight", weight))?;
            let parent = source.parent(&expert.model, expert.variant.clone(), expert.name.as_ref(), weight, density)?;
            if experts.iter().any(|other| other.name == parent.name) {
                let what = format!("two experts are called `{}`", parent.name);
                return Err(source.wrong(&expert.model.span(), &what, "give one of them another `name`"));
            }
            experts.push(parent);
        }
        let needed = match method {
            Method::Slerp { .. } => 1..=1,
            _ => 1..=MOST_EXPERTS,
        };
        if !needed.contains(&experts.len()) {
            let what = match method {
                Method::Slerp { .. } => format!("method `slerp` takes one expert and got {}", experts.len()),
                _ if experts.is_empty() => "nothing to merge: there is no [[expert]]".to_owned(),
                _ => format!("{} experts; at most {MOST_EXPERTS} are merged", experts.len()),
            };
            let at = self.expert.get(1).map_or(0..0, Spanned::span);
            return Err(source.wrong(
                &at,
                &what,
                "add an `[[expert]]` with `model = \"…\"` for each model that takes part",
            ));
        }
        let sum: f64 = experts.iter().map(|expert| expert.weight).sum();
        if method == (Method::Linear { normalize: true }) && sum.abs() < 1e-8 {
            let what = "the weights sum to 0: there is no mean";
            return Err(source.wrong(&self.expert[0].span(), what, "change a weight, or write `normalize = false`"));
        }
        Ok(experts)
    }
}

impl Source<'_> {
    fn parent(
        &self,
        model: &Spanned<String>,
        variant: Option<String>,
        name: Option<&Spanned<String>>,
        weight: f64,
        density: f64,
    ) -> Result<Parent> {
        let written = model.get_ref().clone();
        let path = self.path.parent().unwrap_or(Path::new("")).join(&written);
        let own = Path::new(&written).components().rev().map(|part| part.as_os_str().to_string_lossy());
        let mut own = own.filter(|part| part != "onnx" && !part.ends_with(".onnx"));
        let (name, span) = match name {
            Some(name) => (name.get_ref().clone(), name.span()),
            None => (own.next().unwrap_or_default().into_owned(), model.span()),
        };
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(self.wrong(&span, "a model without a name", "add `name = \"…\"`"));
        }
        Ok(Parent { name, written, path, variant, weight, density, place: self.place(&model.span()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let error = Recipe::parse("r.toml".as_ref(), text).unwrap_err();
        assert!(error.help().is_some(), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        error.to_string()
    }

    const BASE: &str = "[base]\nmodel = \"b\"\n";
    const EXPERT: &str = "[[expert]]\nmodel = \"e\"\n";

    #[test]
    fn faults_have_a_line_and_a_remedy() {
        for (text, message) in [
            ("method = \"tie\"\n".to_owned(), "r.toml:1:10: unknown variant `tie`, expected one of"),
            (String::new(), "r.toml:1:1: missing field `method`"),
            ("method = \n".to_owned(), "r.toml:1:"),
            (format!("method = \"ties\"\nlambda = nan\n{BASE}{EXPERT}"), "r.toml:2:10: `lambda` is NaN"),
            (format!("method = \"ties\"\nlambda = inf\n{BASE}{EXPERT}"), "r.toml:2:10: `lambda` is inf"),
            (format!("method = \"ties\"\n{BASE}{EXPERT}weight = -nan\n"), "r.toml:6:10: `weight` is NaN"),
            (format!("method = \"ties\"\n{BASE}{EXPERT}wieght = 1\n"), "r.toml:6:1: unknown field `wieght`"),
            (format!("method = \"ties\"\ndensity = 1.5\n{BASE}{EXPERT}"), "r.toml:2:11: `density` is 1.5"),
            (format!("method = \"ties\"\ndensity = nan\n{BASE}{EXPERT}"), "r.toml:2:11: `density` is NaN"),
            (
                format!("method = \"ties\"\nseed = 1\n{BASE}{EXPERT}"),
                "r.toml:2:8: `seed` has no effect with method `ties`",
            ),
            (format!("method = \"dare_ties\"\nseed = -1\n{BASE}{EXPERT}"), "r.toml:2:8: invalid value"),
            (format!("method = \"dare_ties\"\n{BASE}{EXPERT}"), "r.toml:5:9: method `dare_ties` needs a `density`"),
            (format!("method = \"linear\"\n{BASE}{EXPERT}"), "r.toml:2:1: method `linear` has no base"),
            (format!("method = \"linear\"\nlambda = 1\n{EXPERT}"), "r.toml:2:10: `lambda` has no effect"),
            (format!("method = \"linear\"\n{EXPERT}weight = 0\n"), "r.toml:2:1: the weights sum to 0"),
            (format!("method = \"slerp\"\n{BASE}{EXPERT}"), "r.toml:1:1: method `slerp` needs `t`"),
            (format!("method = \"slerp\"\nt = 2\n{BASE}{EXPERT}"), "r.toml:2:5: `t` is 2"),
            (
                format!("method = \"slerp\"\nt = 0.5\n{BASE}{EXPERT}[[expert]]\nmodel = \"f\"\n"),
                "r.toml:7:1: method `slerp` takes one expert and got 2",
            ),
            (format!("method = \"ties\"\n{EXPERT}"), "r.toml:1:1: method `ties` needs a [base]"),
            (format!("method = \"ties\"\n{BASE}"), "r.toml:1:1: nothing to merge"),
            (format!("method = \"ties\"\n{BASE}{EXPERT}{EXPERT}"), "r.toml:7:9: two experts are called `e`"),
            (format!("schema = 2\nmethod = \"ties\"\n{BASE}{EXPERT}"), "r.toml:1:10: schema 2 is not known"),
            (
                format!("method = \"ties\"\n{BASE}[[expert]]\nmodel = \"/\"\nname = \"\"\n"),
                "r.toml:6:8: a model without a name",
            ),
        ] {
            let found = wrong(&text);
            assert!(found.starts_with(message), "{text}\n{found}");
        }
    }

    #[test]
    fn a_parent_has_the_name_of_its_folder() {
        let text = format!("method = \"linear\"\n{EXPERT}[[expert]]\nmodel = \"a/S-qa/onnx/model.onnx\"\n");
        let recipe = Recipe::parse("recipes/r.toml".as_ref(), &text).unwrap();
        let names: Vec<&str> = recipe.parents().map(|parent| &*parent.name).collect();
        assert_eq!(names, ["e", "S-qa"]);
        assert_eq!(recipe.experts[0].path, Path::new("recipes/e"));
        assert_eq!(recipe.experts[1].place, "recipes/r.toml:5:9");
    }
}
