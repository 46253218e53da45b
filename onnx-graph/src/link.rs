//! From a [`Model`] to a small file beside links to those of its weights.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};
use same_file::Handle;

use crate::{
    model::Model,
    save::{EMBED_BYTES, Home, INLINE_BYTES, Partial, data_file, failed, name_in_folder},
    stamp::{Stamp, changed},
    tensor::{Initializer, TensorData},
};

impl Model {
    /// Writes the model to `path` and copies none of the weights that lie in files: each such file is hard-linked beside
    /// it as `NAME_data`, `NAME_data_1`, …, and the tensors point into it. A model of any size gets other names or
    /// other nodes for the price of its header.
    ///
    /// A file may be one of external data or a whole model whose weights stand inside: an ONNX file names external data by
    /// file, offset and length, and what else is in the file does not matter. Where the file system cannot link (another
    /// disk, another owner, no links at all), the file is copied. Weights made in memory go into the
    /// model's own file or, if they are large, into one more file of this kind.
    ///
    /// A link is the file itself: a program that later writes *into* the source changes this model, too. Programs that write
    /// models replace them, and a link outlives that. ONNX Runtime loads linked weights (1.23 and 1.32 were tried). Python's
    /// `onnx` 1.23 does not: `onnx.load` takes a file of external data with several links for an attack, and that holds for
    /// the source as well while the link is there; with `load_external_data=False` it reads both.
    ///
    /// Saving a model over itself is fine. Files called `NAME_data` and so on that an earlier save of the same name left
    /// are removed if this one has no use for them.
    ///
    /// ```no_run
    /// # fn main() -> logitfuse_core::Result<()> {
    /// use logitfuse_onnx_graph::{Model, rename_values};
    ///
    /// let mut model = Model::open("expert/model.onnx".as_ref())?;
    /// rename_values(model.graph_mut(), &mut |name| {
    ///     if name == "input_ids" {
    ///         *name = "tokens".into();
    ///     }
    /// });
    /// model.save_linked("renamed/model.onnx".as_ref())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a file of weights is gone or shorter than when the model was opened, or a file cannot be written.
    pub fn save_linked(&self, path: &Path) -> Result<()> {
        let in_memory = self.initializers.iter().filter(|weights| *weights.data() == TensorData::Header);
        let embed = in_memory.map(Initializer::byte_length).sum::<u64>() <= EMBED_BYTES;
        let mut links =
            Links { model: path, base: name_in_folder(path)?, made: Vec::new(), fresh: Vec::new(), used: false };
        let home = |weights: &Initializer| match weights.data() {
            _ if weights.byte_length() <= INLINE_BYTES => Ok(Home::Header),
            TensorData::Header if embed => Ok(Home::Header),
            TensorData::Header => Ok(Home::Data),
            TensorData::File { path, offset, .. } => {
                links.name_of(path, weights).map(|file| Home::Linked { file, offset: *offset })
            }
        };
        let homes = self.initializers.iter().map(home).collect::<Result<Vec<_>>>()?;
        let own = links.unused_name()?;
        self.save_apart(path, &path.with_file_name(&own), &homes)?;
        links.used = true;
        links.remove_others(homes.contains(&Home::Data).then_some(own.as_str()))
    }
}

/// The files of weights beside a model that is being written.
struct Links<'a> {
    model: &'a Path,
    base: String,
    made: Vec<Link>,
    /// Those that were not there before.
    fresh: Vec<PathBuf>,
    /// Whether a model refers to them.
    used: bool,
}

struct Link {
    source: Arc<Path>,
    file: Handle,
    stamp: Stamp,
    name: String,
}

impl Links<'_> {
    /// The name beside the model of the file that a weight lies in.
    fn name_of(&mut self, source: &Arc<Path>, weights: &Initializer) -> Result<String> {
        let index = match self.made.iter().position(|link| link.source == *source) {
            Some(index) => index,
            None => self.add(source)?,
        };
        let link = &self.made[index];
        if !weights.is_of(link.stamp) {
            return Err(changed(source));
        }
        Ok(link.name.clone())
    }

    fn add(&mut self, source: &Arc<Path>) -> Result<usize> {
        // A link to a symbolic link would be one that leads out of the folder.
        let real = source.canonicalize().map_err(|e| failed(source, e))?;
        let file = Handle::from_path(&real).map_err(|e| failed(source, e))?;
        let stamp = Stamp::of(&file.as_file().metadata().map_err(|e| failed(source, e))?);
        let name = match self.made.iter().find(|link| link.file == file) {
            Some(link) => link.name.clone(),
            None => self.place(&real, &file)?,
        };
        self.made.push(Link { source: source.clone(), file, stamp, name });
        Ok(self.made.len() - 1)
    }

    /// Links the file under the first name that is free. A name that is taken may belong to a model that is still whole:
    /// it is replaced by nothing, so that the model that stands here keeps its weights until it is replaced itself.
    fn place(&mut self, source: &Path, file: &Handle) -> Result<String> {
        for number in 0.. {
            let target = data_file(self.model, number);
            let name = name_in_folder(&target)?;
            match target.symlink_metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    link_or_copy(source, &target)?;
                    self.fresh.push(target);
                }
                Err(e) => return Err(failed(&target, e)),
                Ok(there) => {
                    let same = there.is_file() && Handle::from_path(&target).is_ok_and(|there| there == *file);
                    if !same {
                        continue;
                    }
                }
            }
            return Ok(name);
        }
        Err(Error::new(ErrorKind::Internal, format!("{}: too many files of weights", self.model.display())))
    }

    /// The first name that no link has, for weights that are written.
    fn unused_name(&self) -> Result<String> {
        let mut number = 0;
        loop {
            let name = name_in_folder(&data_file(self.model, number))?;
            if !self.made.iter().any(|link| link.name == name) {
                return Ok(name);
            }
            number += 1;
        }
    }

    /// Removes files of weights of an earlier model of this name.
    fn remove_others(&self, own: Option<&str>) -> Result<()> {
        let folder = self.model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for entry in fs::read_dir(folder).map_err(|e| failed(folder, e))? {
            let entry = entry.map_err(|e| failed(folder, e))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_used = own == Some(name) || self.made.iter().any(|link| link.name == name);
            if self.is_ours(name) && !is_used {
                fs::remove_file(entry.path()).map_err(|e| failed(&entry.path(), e))?;
            }
        }
        Ok(())
    }

    fn is_ours(&self, name: &str) -> bool {
        let number = name.strip_prefix(&self.base).and_then(|rest| rest.strip_prefix("_data"));
        number.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('_').is_some_and(|digits| digits.parse::<usize>().is_ok())
        })
    }
}

impl Drop for Links<'_> {
    fn drop(&mut self) {
        if !self.used {
            for link in &self.fresh {
                // What cannot be removed either is told by the error that led here.
                let _ = fs::remove_file(link);
            }
        }
    }
}

fn link_or_copy(source: &Path, target: &PathBuf) -> Result<()> {
    if fs::hard_link(source, target).is_ok() {
        return Ok(());
    }
    Partial::write(target, |out| {
        let mut file = File::open(source).map_err(|e| failed(source, e))?;
        io::copy(&mut file, out).map_err(|e| failed(source, e))?;
        Ok(())
    })?
    .publish()
}
