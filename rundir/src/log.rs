//! An append-only log of JSON lines that survives a kill.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    marker::PhantomData,
    path::{Path, PathBuf},
};

use logitfuse_core::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};

use crate::files::{open, require_plain, unreadable, unwritable};

/// Bytes of a line. Forty thousand traced tokens of four models fit in.
const LINE_LIMIT: u64 = 64 << 20;
/// Values in a line, which take more memory than their text if that is short. A line under this many bytes cannot have too many.
const VALUE_LIMIT: usize = 8 << 20;

/// A JSONL file that grows by whole lines.
///
/// A line goes to the operating system in one piece as soon as it is there, so that only a line that was being written can
/// be lost with the process. Such a piece has no newline at its end: it is cut off when the log is opened again. A line
/// that is damaged in any other way was damaged from outside, and is an error.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
}

impl Log {
    /// Opens or creates a log and hands every line that it holds to `each`, which says whether the line stays; the first
    /// one that does not is cut off with all after it.
    pub(crate) fn open<T: DeserializeOwned>(
        path: &Path,
        mut each: impl FnMut(usize, T) -> Result<bool>,
    ) -> Result<Self> {
        require_plain(path)?;
        let file = OpenOptions::new().create(true).append(true).read(true).open(path);
        let mut file = file.map_err(|e| unwritable(path, &e))?;
        let mut length = 0;
        for line in Lines::<T>::of(path, file.try_clone().map_err(|e| unreadable(path, &e))?) {
            let line = line?;
            if !each(line.number, line.value)? {
                break;
            }
            length = line.offset + line.bytes.len() as u64;
        }
        let cut = file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0)));
        cut.map_err(|e| unwritable(path, &e))?;
        Ok(Self { path: path.to_owned(), file, length })
    }

    /// Appends a record as one line.
    pub(crate) fn append(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| {
            Error::new(ErrorKind::Internal, format!("{}: a record cannot be written as JSON: {e}", self.path.display()))
        })?;
        line.push(b'\n');
        if line.len() as u64 > LINE_LIMIT {
            let message = format!("{}: a sample of {} MiB, which is too long", self.path.display(), line.len() >> 20);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_help("trace fewer samples (`run.traced_samples`), or let texts be shorter"));
        }
        self.append_line(&line)
    }

    /// Appends a line that ends with its newline.
    pub(crate) fn append_line(&mut self, line: &[u8]) -> Result<()> {
        match self.file.write_all(line) {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(e) => {
                // Should this fail too, the piece is cut off at the next opening.
                let _ = self.file.set_len(self.length);
                Err(unwritable(&self.path, &e))
            }
        }
    }

    /// Waits until the lines are on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| unwritable(&self.path, &e))
    }
}

/// One line of a log.
pub(crate) struct Line<T> {
    /// From 1.
    pub(crate) number: usize,
    /// Where it begins.
    pub(crate) offset: u64,
    /// With its newline.
    pub(crate) bytes: Vec<u8>,
    pub(crate) value: T,
}

/// The whole lines of a log; a last one without newline is left out.
pub(crate) struct Lines<T, R = BufReader<File>> {
    path: PathBuf,
    reader: R,
    number: usize,
    offset: u64,
    record: PhantomData<T>,
}

impl<T> Lines<T> {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self::of(path, open(path)?))
    }

    fn of(path: &Path, file: File) -> Self {
        Self::from_reader(path, BufReader::new(file))
    }
}

impl<T, R: BufRead> Lines<T, R> {
    /// `path` is what messages call it.
    pub(crate) fn from_reader(path: &Path, reader: R) -> Self {
        Self { path: path.to_owned(), reader, number: 0, offset: 0, record: PhantomData }
    }

    /// The bytes of a whole line; none at the end, and for a last line without newline.
    fn read(&mut self) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(LINE_LIMIT + 1).read_until(b'\n', &mut bytes);
        read.map_err(|e| unreadable(&self.path, &e))?;
        if bytes.len() as u64 > LINE_LIMIT {
            return Err(self.damaged(&format!("it is longer than {} MiB", LINE_LIMIT >> 20)));
        }
        if bytes.len() > VALUE_LIMIT && values(&bytes) > VALUE_LIMIT {
            return Err(self.damaged(&format!("it holds more than {VALUE_LIMIT} values")));
        }
        Ok((bytes.last() == Some(&b'\n')).then_some(bytes))
    }

    /// The error of the line that is being read.
    fn damaged(&self, why: &dyn std::fmt::Display) -> Error {
        let message = format!("{}:{}: the line is damaged: {why}", self.path.display(), self.number);
        Error::new(ErrorKind::InvalidData, message)
            .with_help("restore the file, or delete this line and all after it: what they held is made again")
    }
}

impl<T: DeserializeOwned, R: BufRead> Iterator for Lines<T, R> {
    type Item = Result<Line<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.number += 1;
        let bytes = match self.read() {
            Ok(bytes) => bytes?,
            Err(e) => return Some(Err(e)),
        };
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Some(Ok(Line { number: self.number, offset, bytes, value })),
            Err(e) => Some(Err(self.damaged(&e))),
        }
    }
}

/// How many values a line of JSON holds, or a few more: what follows a comma, a colon or an opening bracket.
fn values(line: &[u8]) -> usize {
    let (mut in_string, mut escaped, mut count) = (false, false, 1);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b':' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn lines(path: &Path) -> Result<Vec<u32>> {
        let mut values = Vec::new();
        Log::open(path, |_, value| {
            values.push(value);
            Ok(true)
        })?;
        Ok(values)
    }

    #[test]
    fn a_line_that_was_cut_off_is_forgotten_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::open::<u32>(&path, |_, _| Ok(true)).unwrap();
        for n in 1..=3_u32 {
            log.append(&n).unwrap();
        }
        log.sync().unwrap();
        fs::write(&path, b"1\n2\n3").unwrap();
        assert_eq!(lines(&path).unwrap(), [1, 2]);
        assert_eq!(fs::read(&path).unwrap(), b"1\n2\n");
        fs::write(&path, b"1\n\0\0\n3\n").unwrap();
        let e = lines(&path).unwrap_err();
        assert!(e.to_string().contains("log:2: the line is damaged"), "{e}");
        assert_eq!(fs::read(&path).unwrap(), b"1\n\0\0\n3\n", "what is damaged is left for its owner to look at");
    }

    #[test]
    fn what_does_not_belong_is_cut_off_with_all_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, b"1\n2\n3\n").unwrap();
        let mut log = Log::open::<u32>(&path, |_, value| Ok(value < 2)).unwrap();
        log.append(&9).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"1\n9\n");
    }
}
