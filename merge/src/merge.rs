//! From a recipe to a folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};
use logitfuse_onnx_graph::{Initializer, Model, Staging};

use crate::{
    blend::{Blend, Source, Values, overflow},
    bytes::Bytes,
    card::{self, Hashed},
    float::Float,
    parents::{self, Folder, Opened},
    plan::{Part, Plan},
    quantised::{GridReader, Loss, PIECE, Refit, Scheme},
    recipe::Recipe,
    side_files,
};

/// What a merge is doing.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Something that the user should know: what was left behind and removed, a licence that is not stated.
    Note(&'a str),
    /// Bytes gone through, of all that there are; what is done with them.
    Bytes {
        /// `reading`, `comparing` or `merging`
        phase: &'static str,
        /// So many
        done: u64,
        /// Of so many
        of: u64,
    },
}

/// Is told what is done; an error from it ends the merge, which then leaves nothing.
pub type Tell<'a> = dyn FnMut(Progress<'_>) -> Result<()> + 'a;

/// What a merge made.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The ONNX file.
    pub onnx: PathBuf,
    /// Tensors whose numbers were merged; one that is quantised counts once.
    pub merged: usize,
    /// Tensors that all parents had alike, and that were copied.
    pub copied: usize,
    /// What requantisation lost, where there was any.
    pub requantised: Option<Requantised>,
}

/// The error of storing merged weights as small integers again.
#[derive(Clone, Debug, PartialEq)]
pub struct Requantised {
    /// Tensors.
    pub tensors: usize,
    /// Their schemes, with the number of tensors of each.
    pub schemes: BTreeMap<String, usize>,
    /// Root of the mean squared error of all elements, relative to that of the merged weights.
    pub relative_rms: f64,
    /// The largest error of an element.
    pub largest: f64,
    /// The tensor with the largest relative error, and that.
    pub worst: (String, f64),
}

/// Merges models by a recipe into the folder `target`, which is complete when it appears.
///
/// `locate` finds the model of a path, and of a variant where the recipe names one. Of tensors that are equal in all parents,
/// the first parent's are copied. Memory is needed for some pieces of the parents' tensors, not for whole ones.
///
/// # Errors
/// [`ErrorKind::Incompatible`] and what differs if the models are not of one architecture, [`ErrorKind::Unsupported`] for a
/// quantisation that is not known, [`ErrorKind::Numeric`] for weights that are no numbers, and what reading and writing
/// bring.
pub fn merge(
    recipe: &Recipe,
    target: &Path,
    locate: impl FnMut(&Path, Option<&str>) -> Result<Folder>,
    tell: &mut Tell<'_>,
) -> Result<Merged> {
    let parents = parents::open(recipe, locate)?;
    let mut leftovers = Vec::new();
    let staging = Staging::begin(target, &mut |path| leftovers.push(path.display().to_string()))?;
    for path in leftovers {
        tell(Progress::Note(&format!("removed {path}, which a merge that was ended left behind")))?;
    }
    let hashed = hashes(&parents, tell)?;
    let plan = Plan::make(&parents, tell)?;
    let mut work = Work { recipe, parents: &parents, plan: &plan, places: BTreeMap::new(), losses: Vec::new() };
    let scratch = staging.scratch();
    work.write(&scratch, tell)?;

    let first = &parents[0];
    let made = staging.made();
    let relative = first.folder.onnx.strip_prefix(&first.folder.root).unwrap_or(Path::new("model.onnx"));
    work.model(&scratch)?.save(&made_in(&made, relative)?)?;
    for file in side_files::list(&first.folder.root)? {
        copy(&file, &made_in(&made, Path::new(file.file_name().unwrap_or_default()))?)?;
    }
    write(&made.join("merge.toml"), recipe.text.as_bytes())?;
    let merged = Merged {
        onnx: target.join(relative),
        merged: plan.merged(),
        copied: plan.copied(),
        requantised: work.requantised(),
    };
    write(&made.join("README.md"), card::write(recipe, &parents, &hashed, &merged).as_bytes())?;
    for parent in hashed.iter().filter(|parent| parent.licence.is_none()) {
        tell(Progress::Note(&format!("{}: states no licence", parent.name)))?;
    }
    staging.publish()?;
    Ok(merged)
}

/// A file below the new folder; the folders above it are there then.
fn made_in(made: &Path, relative: &Path) -> Result<PathBuf> {
    let path = made.join(relative);
    let folder = path.parent().unwrap_or(made);
    fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
    Ok(path)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|e| unwritable(path, &e))
}

/// Contents alone: what may not be written in the parent's folder may be in ours.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(|e| {
        Error::new(ErrorKind::Io, format!("{}: {e}", from.display())).with_help("check the file's permissions")
    })?;
    let mut out = File::create(to).map_err(|e| unwritable(to, &e))?;
    std::io::copy(&mut source, &mut out).map(|_| ()).map_err(|e| unwritable(to, &e))
}

/// The sha256 of every file of every parent.
fn hashes(parents: &[Opened], tell: &mut Tell<'_>) -> Result<Vec<Hashed>> {
    let mut files = Vec::new();
    for opened in parents {
        let weights = opened.model.initializers.iter().filter_map(|tensor| match tensor.data() {
            logitfuse_onnx_graph::TensorData::File { path, .. } => Some(path.to_path_buf()),
            logitfuse_onnx_graph::TensorData::Header => None,
        });
        let own = std::iter::once(opened.folder.onnx.clone()).chain(weights).collect::<BTreeSet<_>>();
        files.push(own.into_iter().chain(side_files::list(&opened.folder.root)?).collect::<Vec<_>>());
    }
    let of = files.iter().flatten().filter_map(|file| fs::metadata(file).ok()).map(|metadata| metadata.len()).sum();
    let mut done = 0;
    let mut hashed = Vec::new();
    for (opened, files) in parents.iter().zip(files) {
        let mut sums = Vec::new();
        for file in files {
            let sum = side_files::sha256(&file, &mut |n| {
                done += n;
                tell(Progress::Bytes { phase: "reading", done, of })
            })?;
            let name = file.strip_prefix(&opened.folder.root).unwrap_or(&file).display().to_string();
            sums.push((name, sum));
        }
        let licence = side_files::licence(&opened.folder.root);
        hashed.push(Hashed { name: opened.parent.name.clone(), licence, files: sums });
    }
    Ok(hashed)
}

/// Merged tensors, one after the other, until the model is written.
struct Scratch<'a> {
    path: &'a Path,
    out: BufWriter<File>,
    at: u64,
}

impl Scratch<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|e| unwritable(self.path, &e))
    }
}

struct Work<'a> {
    recipe: &'a Recipe,
    parents: &'a [Opened],
    plan: &'a Plan,
    /// Where in the scratch file a tensor's new bytes begin.
    places: BTreeMap<String, u64>,
    losses: Vec<(String, String, Loss)>,
}

impl<'a> Work<'a> {
    fn write(&mut self, path: &Path, tell: &mut Tell<'_>) -> Result<()> {
        let file = File::create(path).map_err(|e| unwritable(path, &e))?;
        let mut scratch = Scratch { path, out: BufWriter::with_capacity(1 << 20, file), at: 0 };
        let of = self.parents[0].model.initializers.iter().map(Initializer::byte_length).sum();
        let mut done = 0;
        for tensor in &self.parents[0].model.initializers {
            match self.plan.part(tensor.name()) {
                Part::Copied | Part::OfGroup => {}
                Part::Merged(float) => self.float(tensor, float, &mut scratch)?,
                Part::Group(scheme) => self.group(scheme, &mut scratch)?,
            }
            done += tensor.byte_length();
            tell(Progress::Bytes { phase: "merging", done, of })?;
        }
        scratch.out.flush().map_err(|e| unwritable(path, &e))
    }

    fn float(&mut self, tensor: &Initializer, float: Float, scratch: &mut Scratch<'_>) -> Result<()> {
        let name = tensor.name();
        let elements = to_usize(tensor.byte_length())? / float.size();
        let values = |opened: &Opened| Ok(Values::Float(float, Bytes::of(opened.tensor(name)?)?));
        let mut blend = self.blend(name, elements, &values)?;
        self.places.insert(name.to_owned(), scratch.at);
        let (mut piece, mut bytes) = (Vec::new(), Vec::new());
        for start in (0..elements).step_by(PIECE) {
            piece.resize(PIECE.min(elements - start), 0.0);
            blend.fill(start, &mut piece)?;
            if let Some(i) = piece.iter().position(|&value| !float.stored(value).is_finite()) {
                return Err(overflow(name, float.name(), start + i));
            }
            bytes.clear();
            float.encode(&piece, &mut bytes);
            scratch.put(&bytes)?;
        }
        Ok(())
    }

    fn group(&mut self, scheme: &Scheme, scratch: &mut Scratch<'_>) -> Result<()> {
        let values = |opened: &Opened| Ok(Values::Grid(Box::new(grid(scheme, opened)?)));
        let mut blend = self.blend(&scheme.codes, scheme.layout.elements(), &values)?;
        let fixed_zeros = scheme.zeros.iter().all(|zeros| matches!(self.plan.part(zeros), Part::Copied));
        let refit = Refit::new(scheme.layout, grid(scheme, &self.parents[0])?, fixed_zeros);
        self.places.insert(scheme.codes.clone(), scratch.at);
        let refitted = refit.run(&mut |start, out| blend.fill(start, out), &mut |bytes| scratch.put(bytes))?;
        if !refitted.loss.squared_error.is_finite() {
            return Err(overflow(&scheme.codes, scheme.layout.scale.name(), 0));
        }
        for (names, bytes) in [(&scheme.scales, &refitted.scales), (&scheme.zeros, &refitted.zeros)] {
            if !bytes.is_empty() {
                self.places.extend(names.iter().map(|name| (name.clone(), scratch.at)));
                scratch.put(bytes)?;
            }
        }
        self.losses.push((scheme.name.clone(), scheme.codes.clone(), refitted.loss));
        Ok(())
    }

    fn blend(&self, name: &str, elements: usize, values: &dyn Fn(&Opened) -> Result<Values>) -> Result<Blend<'a>> {
        let source = |opened: &Opened| Ok(Source::new(&opened.parent, name, values(opened)?));
        let mut sources = self.parents.iter().map(source).collect::<Result<Vec<_>>>()?;
        let base = self.recipe.base.is_some().then(|| sources.remove(0));
        Blend::new(self.recipe, name, elements, base, sources)
    }

    /// The first parent's graph with the new weights.
    fn model(&self, scratch: &Path) -> Result<Model> {
        let (first, path): (_, Arc<Path>) = (&self.parents[0].model, scratch.into());
        let place = |tensor: &Initializer| match self.places.get(tensor.name()) {
            Some(&at) => tensor.with_data(path.clone(), at),
            None => Ok(tensor.clone()),
        };
        let initializers = first.initializers.iter().map(place).collect::<Result<_>>()?;
        Ok(Model { header: first.header.clone(), initializers })
    }

    fn requantised(&self) -> Option<Requantised> {
        let (mut all, mut schemes) = (Loss::default(), BTreeMap::new());
        let mut worst = (String::new(), f64::NEG_INFINITY);
        for (scheme, tensor, loss) in &self.losses {
            all.add(*loss);
            *schemes.entry(scheme.clone()).or_insert(0) += 1;
            if loss.relative() > worst.1 {
                worst = (tensor.clone(), loss.relative());
            }
        }
        let tensors = self.losses.len();
        (tensors > 0).then(|| Requantised {
            tensors,
            schemes,
            relative_rms: all.relative(),
            largest: all.largest,
            worst,
        })
    }
}

fn to_usize(n: u64) -> Result<usize> {
    usize::try_from(n)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "a tensor is larger than this machine can address"))
}

fn grid(scheme: &Scheme, opened: &Opened) -> Result<GridReader> {
    let bytes = |name: &String| Bytes::of(opened.tensor(name)?);
    let zeros = scheme.zeros.first().map(bytes).transpose()?;
    Ok(GridReader::new(scheme.layout, bytes(&scheme.codes)?, bytes(&scheme.scales[0])?, zeros))
}

fn unwritable(path: &Path, e: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be written: {e}", path.display()))
        .with_help("check permissions and free space, or choose another folder")
}
