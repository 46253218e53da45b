//! Files that a user names.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt, python_json};
use serde_json::Value;

/// Bytes of the largest configuration of a model. Those of published models have some ten thousand.
const MAX_JSON: u64 = 64 << 20;

/// Reads a text file of at most `most` bytes. What is no regular file (a folder, a device, a pipe) is refused before it is
/// opened: a device may have no end, and a pipe no writer.
///
/// # Errors
/// [`ErrorKind::NotFound`] without the file, [`ErrorKind::InvalidData`] for what is no regular file, too large, or no UTF-8; the
/// message begins with the path.
pub fn read_text_file(path: &Path, most: u64) -> Result<String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).or_err(ErrorKind::NotFound, &shown)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "a device or a pipe" };
        return Err(Error::new(ErrorKind::InvalidData, format!("{shown}: {kind}, and no regular file"))
            .with_help("name a file; what a program writes can be saved as one first"));
    }
    let too_large = || {
        Error::new(ErrorKind::InvalidData, format!("{shown}: larger than {}", bytes(most)))
            .with_help("split it, or leave out what is not needed")
    };
    if metadata.len() > most {
        return Err(too_large());
    }
    let mut read = Vec::new();
    // Some files that state no size have no end.
    File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut read)).or_err(ErrorKind::NotFound, &shown)?;
    if read.len() as u64 > most {
        return Err(too_large());
    }
    String::from_utf8(read).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        Error::new(ErrorKind::InvalidData, format!("{shown}:{line}: not UTF-8")).with_help("save the file as UTF-8")
    })
}

/// As [`read_text_file`]; `None` if there is no such file.
pub(crate) fn read_if_there(path: &Path, most: u64) -> Result<Option<String>> {
    let missing = std::fs::metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    if missing { Ok(None) } else { read_text_file(path, most).map(Some) }
}

/// Reads a JSON file of a model folder, as Python reads it; `None` if the folder does not have it.
pub(crate) fn read_json(folder: &Path, file: &str) -> Result<Option<(PathBuf, Value)>> {
    let path = folder.join(file);
    let Some(text) = read_if_there(&path, MAX_JSON)? else { return Ok(None) };
    match serde_json::from_str(&python_json(&text)) {
        Ok(value) => Ok(Some((path, value))),
        Err(e) => Err(Error::new(ErrorKind::InvalidData, format!("{}: not valid JSON: {e}", path.display()))
            .with_help("download the file again, or repair it at the line that is named")
            .with_source(e)),
    }
}

fn bytes(count: u64) -> String {
    match count {
        count if count >= 1 << 30 => format!("{} GiB", count >> 30),
        count if count >= 1 << 20 => format!("{} MiB", count >> 20),
        count => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, most: u64) -> String {
        read_text_file(path, most).expect_err("it is no such file").to_string()
    }

    #[test]
    fn a_file_within_its_bounds_is_read() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "é\n").expect("the test's folder is writable");
        assert_eq!(read_text_file(&path, 3).expect("a small file"), "é\n");
        assert!(refusal(&path, 2).ends_with("a.txt: larger than 2 bytes"));
        std::fs::write(&path, b"a\nb\xff").expect("the test's folder is writable");
        assert!(refusal(&path, 1 << 20).ends_with("a.txt:2: not UTF-8"));
        assert!(refusal(folder.path(), 9).ends_with(": a folder, and no regular file"));
        let missing = read_text_file(&folder.path().join("none"), 9).expect_err("it is not there");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn what_has_no_end_is_not_opened() {
        assert!(refusal(Path::new("/dev/zero"), 9).ends_with("/dev/zero: a device or a pipe, and no regular file"));
        let folder = tempfile::tempdir().expect("a folder for the test");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is part of POSIX");
        assert!(made.success());
        assert!(refusal(&pipe, 9).ends_with("pipe: a device or a pipe, and no regular file"));
    }

    #[test]
    fn json_is_read_as_python_writes_it() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let text = "\u{feff}{\"limits\": [0.0, Infinity], \"x\": NaN, \"name\": \"NaN\"}";
        std::fs::write(folder.path().join("a.json"), text).expect("the test's folder is writable");
        let (_, value) = read_json(folder.path(), "a.json").expect("it is JSON").expect("it is there");
        assert_eq!(value, serde_json::json!({"limits": [0.0, "inf"], "x": "nan", "name": "NaN"}));
        assert!(read_json(folder.path(), "b.json").expect("it need not be there").is_none());
    }
}
