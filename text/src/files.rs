//! Files that a user names.

use std::{fs::File, io::Read, path::Path};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt};

/// Reads a text file of at most `most` bytes. What is no regular file (a folder, a device, a pipe) is refused before it is
/// opened: it may have no end, or nobody who writes.
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
}
