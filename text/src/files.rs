//! Files of model folders. Who made them is unknown, so only plain files of a sensible size are read.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt, python_json};
use serde_json::Value;

/// Bytes of the largest configuration. Those of published models have some ten thousand.
const MAX_JSON: usize = 64 << 20;

/// Reads a JSON file of a model folder; `None` if the folder does not have it.
pub(crate) fn read_json(folder: &Path, file: &str) -> Result<Option<(PathBuf, Value)>> {
    let path = folder.join(file);
    let Some(text) = read_text(&path, MAX_JSON)? else { return Ok(None) };
    match serde_json::from_str(&python_json(&text)) {
        Ok(value) => Ok(Some((path, value))),
        Err(e) => Err(Error::new(ErrorKind::InvalidData, format!("{}: not valid JSON: {e}", path.display()))
            .with_help("download the file again, or repair it at the line that is named")
            .with_source(e)),
    }
}

/// Reads a text file of at most so many bytes; `None` if there is no such file. A device or a pipe, which may never end or
/// never begin, is refused.
pub(crate) fn read_text(path: &Path, most: usize) -> Result<Option<String>> {
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::new(ErrorKind::NotFound, format!("{shown}: {e}")).with_source(e)),
    };
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::InvalidData, format!("{shown}: not a regular file"))
            .with_help("name a file, not a folder, a device or a pipe"));
    }
    let mut bytes = Vec::new();
    // What is read is bounded, too: a file may grow, and some say that they are empty.
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).or_err(ErrorKind::NotFound, shown)?;
    if bytes.len() > most {
        return Err(Error::new(ErrorKind::InvalidData, format!("{}: more than {most} bytes", path.display()))
            .with_help("this is not the file that the model was published with; download it again"));
    }
    String::from_utf8(bytes).map(Some).or_err(ErrorKind::InvalidData, path.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_plain_files_of_a_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(read_text(&path, 9).unwrap(), None);
        fs::write(&path, "123456789").unwrap();
        assert_eq!(read_text(&path, 9).unwrap().as_deref(), Some("123456789"));
        let e = read_text(&path, 8).unwrap_err();
        assert_eq!(
            (e.kind(), e.to_string()),
            (ErrorKind::InvalidData, format!("{}: more than 8 bytes", path.display()))
        );
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path, 9).unwrap_err().kind(), ErrorKind::InvalidData);

        let e = read_text(folder.path(), 9).unwrap_err();
        assert!(e.to_string().ends_with("not a regular file") && e.help().is_some(), "{e}");
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [Path::new("/dev/zero"), Path::new("/dev/null"), &pipe] {
            let e = read_text(path, 9).unwrap_err();
            assert_eq!(e.to_string(), format!("{}: not a regular file", path.display()));
        }
    }

    #[test]
    fn json_is_read_as_python_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.json"), "\u{feff}{\"limits\": [0.0, Infinity], \"x\": NaN, \"name\": \"NaN\"}")
            .unwrap();
        let (_, value) = read_json(folder.path(), "a.json").unwrap().unwrap();
        assert_eq!(value, serde_json::json!({"limits": [0.0, "inf"], "x": "nan", "name": "NaN"}));
    }
}
