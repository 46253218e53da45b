//! External data: files beside a model that hold its weights.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use logitfuse_core::{Error, ErrorKind, Result};

use crate::{
    error::{clipped, invalid},
    proto::{EXTERNAL, Entry, Tensor},
    shape,
    stamp::Stamp,
    tensor::ElementType,
};

/// What a tensor says of the place of its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) location: &'a str,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl<'a> Place<'a> {
    /// Where a tensor's bytes lie; `None` if not in a file of external data.
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Option<Self>> {
        let within = |e: Error| e.context(clipped(format!("external data of `{}`", tensor.name())));
        match tensor.data_location {
            Some(EXTERNAL) => Self::read(tensor).map(Some).map_err(within),
            Some(0) | None => Ok(None),
            Some(other) => Err(within(invalid(format!("lie in a place of unknown kind {other}")))),
        }
    }

    fn read(tensor: &'a Tensor) -> Result<Self> {
        let entry = |key: &str| {
            let mut entries = tensor.external_data.iter().filter(|entry| entry.key() == key);
            let first = entries.next().map(Entry::value);
            // Readers differ in which of two they believe.
            if entries.next().is_some() { Err(invalid(format!("name `{key}` twice"))) } else { Ok(first) }
        };
        let number = |key: &str| {
            let number = |text: &str| text.parse::<u64>().map_err(|_| invalid(format!("{key} `{text}` is no number")));
            entry(key)?.map(number).transpose()
        };
        let location = entry("location")?.ok_or_else(|| invalid("name no file".into()))?;
        let offset = number("offset")?.unwrap_or(0);
        // Without a length it is what the shape needs.
        let needed = || shape::elements(&tensor.dims).and_then(|n| ElementType(tensor.data_type()).bytes(n));
        let length = number("length")?.or_else(needed).unwrap_or(0);
        offset.checked_add(length).ok_or_else(|| invalid("a length overflows".into()))?;
        Ok(Self { location, offset, length })
    }

    pub(crate) fn end(self) -> u64 {
        self.offset + self.length
    }
}

/// A file of external data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalFile {
    /// What the model calls it: a path from the model's folder.
    pub location: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

impl ExternalFile {
    /// Looks for a file of a model, of which so many bytes are needed.
    ///
    /// # Errors
    /// If it is missing, too short, no regular file, or its name leads out of the model's folder.
    pub(crate) fn locate(model: &Path, location: &str, needed: u64) -> Result<Self> {
        let say = |kind: ErrorKind, what: String, help: &str| {
            Error::new(kind, clipped(format!("{}: its external data {what}", model.display()))).with_help(help)
        };
        let plain =
            Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain {
            return Err(outside(model, &format!("file `{location}` lies outside of the model's folder")));
        }
        let path = folder_of(model).join(location);
        let metadata = path.metadata().map_err(|e| {
            let help = format!("fetch `{}` into {}", clipped(location.to_owned()), folder_of(model).display());
            say(ErrorKind::NotFound, format!("file `{location}` is missing"), &help).with_source(e)
        })?;
        let again = "fetch the file again";
        // A pipe or a device never ends.
        if !metadata.is_file() {
            return Err(say(ErrorKind::InvalidData, format!("`{location}` are no regular file"), again));
        }
        let bytes = metadata.len();
        if bytes < needed {
            let what = format!("file `{location}` has {bytes} of {needed} bytes");
            return Err(say(ErrorKind::InvalidData, what, again));
        }
        Ok(Self { location: location.to_owned(), path, bytes })
    }
}

fn outside(model: &Path, what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, clipped(format!("{}: its external data {what}", model.display())))
        .with_help("external data lie beside the model, in files that it names without `..`; export it again")
}

fn folder_of(model: &Path) -> &Path {
    model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The files of external data of a model whose bytes will be copied elsewhere: each is looked for once.
pub(crate) struct Files<'a> {
    model: &'a Path,
    by_location: HashMap<String, usize>,
    found: Vec<Found>,
}

struct Found {
    path: Arc<Path>,
    /// Where the path leads, which may have several spellings.
    real: PathBuf,
    stamp: Stamp,
    /// Offset and length of what was asked for.
    places: HashSet<(u64, u64)>,
    bytes: u64,
}

impl<'a> Files<'a> {
    pub(crate) fn of(model: &'a Path) -> Self {
        Self { model, by_location: HashMap::new(), found: Vec::new() }
    }

    /// The file that a tensor's bytes lie in.
    ///
    /// # Errors
    /// As [`ExternalFile::locate`]. If the file is a link out of the model's folder: what it leads to was not given with
    /// the model, and would travel with the result; where the model itself is a link, files beside the one that it leads to
    /// are fine, as in the cache of Hugging Face. And if what is asked for overlaps: a thousand tensors that each are the
    /// whole file but a byte would be a thousand files when they are copied, while one for all of them remains one.
    pub(crate) fn locate(&mut self, place: Place<'_>) -> Result<(Arc<Path>, Stamp)> {
        let index = match self.by_location.get(place.location) {
            Some(&index) => index,
            None => self.find(place.location)?,
        };
        let found = &mut self.found[index];
        if place.end() > found.stamp.bytes {
            // Says by how much.
            ExternalFile::locate(self.model, place.location, place.end())?;
        }
        if found.places.insert((place.offset, place.length)) {
            found.bytes = found.bytes.saturating_add(place.length);
            if found.bytes > found.stamp.bytes {
                let what = format!("file `{}` holds weights that overlap", place.location);
                return Err(invalid(format!("{}: its external data {what}", self.model.display())));
            }
        }
        Ok((found.path.clone(), found.stamp))
    }

    fn find(&mut self, location: &str) -> Result<usize> {
        let file = ExternalFile::locate(self.model, location, 0)?;
        let failed = |e: io::Error| Error::new(ErrorKind::Io, format!("{}: {e}", file.path.display())).with_source(e);
        let real = file.path.canonicalize().map_err(failed)?;
        let inside = |folder: Option<PathBuf>| folder.is_some_and(|folder| real.starts_with(folder));
        let beside_the_model = || self.model.canonicalize().ok()?.parent().map(Path::to_owned);
        if !inside(folder_of(self.model).canonicalize().ok()) && !inside(beside_the_model()) {
            let what = format!("file `{location}` is a link that leads outside of the model's folder");
            return Err(outside(self.model, &what));
        }
        let known = self.found.iter().position(|found| found.real == real);
        let index = known.unwrap_or(self.found.len());
        if known.is_none() {
            let stamp = Stamp::of(&real.metadata().map_err(failed)?);
            let path = file.path.as_path().into();
            self.found.push(Found { path, real, stamp, places: HashSet::new(), bytes: 0 });
        }
        self.by_location.insert(location.to_owned(), index);
        Ok(index)
    }
}
