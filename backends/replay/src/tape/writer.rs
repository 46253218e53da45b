//! Writing a tape, and continuing one.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{BufReader, Seek, SeekFrom, Write},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, PromptScore, Result, ResultExt, RoleRow, SharedVocabulary, TokenId};

use super::{
    Tape, TapeHeader, TextInfo,
    block::{BlockBuilder, Shape},
    frame::{MAGIC, frame},
};

/// A writer that appends one text after the other.
pub struct TapeWriter {
    name: String,
    file: File,
    shape: Shape,
    builder: BlockBuilder,
    done: Vec<TextInfo>,
    text: Option<OpenText>,
    end: u64,
}

/// A text that is being written.
struct OpenText {
    info: TextInfo,
    /// Positions that are in the file.
    first: usize,
    bytes: u64,
}

impl TapeWriter {
    /// Makes a tape, or continues one that has the same header. What a killed recorder left behind its last whole text is cut
    /// off.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] for a tape with another header, with the first difference; [`ErrorKind::InvalidData`] for
    /// what is no tape or a damaged one, which is left as it is; [`ErrorKind::Io`], also if another process writes to it.
    pub fn open(path: &Path, header: &TapeHeader) -> Result<Self> {
        let name = path.display().to_string();
        let shape = Shape {
            kind: header.rows,
            sources: header.sources.len(),
            vocabulary: header.vocabulary().map_err(|e| e.context(&name))?,
        };
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(false).read(true).write(true).open(path).or_err(ErrorKind::Io, &name)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(ErrorKind::Io, format!("{name}: another process writes to it"))
                    .with_help("wait for it, or name another file"));
            }
            // A file system without locks has none to break.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        let mut done = Vec::new();
        let end = if file.metadata().or_err(ErrorKind::Io, &name)?.len() == 0 {
            let json = serde_json::to_vec(header).or_err(ErrorKind::Internal, &name)?;
            let bytes = [MAGIC.as_slice(), &frame(&json, &[])?].concat();
            file.write_all(&bytes).or_err(ErrorKind::Io, &name)?;
            bytes.len() as u64
        } else {
            let mut tape = Tape::read(&name, BufReader::new(&file))?;
            same_header(&name, tape.header(), header)?;
            // A power cut may leave lengths without data; it is the last text that it hits.
            if let Some(last) = tape.texts().len().checked_sub(1) {
                let mut number = 0;
                while tape.block(last, number)?.is_some() {
                    number += 1;
                }
            }
            done.extend(tape.texts().iter().map(|text| text.info.clone()));
            tape.end()
        };
        let builder = BlockBuilder::new(&shape);
        let mut writer = Self { name, file, shape, builder, done, text: None, end };
        writer.cut()?;
        Ok(writer)
    }

    /// The texts on the tape.
    pub fn done(&self) -> &[TextInfo] {
        &self.done
    }

    /// Begins a text. What was begun before and not finished is forgotten.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a text without tokens or one that is on the tape; [`ErrorKind::Io`].
    pub fn begin(&mut self, info: TextInfo) -> Result<()> {
        self.cut()?;
        if info.tokens == 0 || self.done.iter().any(|done| done.key() == info.key()) {
            let what = if info.tokens == 0 { "has no token" } else { "is on the tape already" };
            return Err(Error::new(ErrorKind::InvalidConfig, format!("{}: text `{info}` {what}", self.name)));
        }
        self.text = Some(OpenText { info, first: 0, bytes: 0 });
        Ok(())
    }

    /// Sets how probable the prompts of the text that was begun were, one entry per source.
    pub fn prompts(&mut self, scores: &[PromptScore]) {
        self.builder.prompts = scores.to_vec();
    }

    /// Adds the next position of the text that was begun: the token that it has there, and the rows, one per source,
    /// masked to the vocabulary.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for rows of a wrong number or width, or without a text; [`ErrorKind::Numeric`] for a row that
    /// is no distribution; [`ErrorKind::Io`].
    pub fn push(&mut self, token: TokenId, rows: &[RoleRow<'_>]) -> Result<()> {
        let Self { name, file, shape, builder, text, .. } = self;
        let Some(text) = text else { return Err(Error::new(ErrorKind::Internal, format!("{name}: rows of no text"))) };
        let position = text.first + builder.len();
        builder
            .push(shape, token, rows)
            .map_err(|e| e.context(format_args!("{name}: token {position} of `{}`", text.info)))?;
        let held = builder.len();
        if held == shape.positions() || text.first + held == text.info.tokens {
            let (description, payload) = builder.finish(shape, &text.info, text.first)?;
            let bytes = frame(&description, &payload)?;
            file.write_all(&bytes).or_err(ErrorKind::Io, &*name)?;
            text.first += held;
            text.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// Ends the text that was begun: from now on it is on the tape.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if it has another number of positions than it should; it is not on the tape then.
    pub fn finish(&mut self) -> Result<()> {
        match self.text.take() {
            Some(text) if text.first == text.info.tokens && self.builder.len() == 0 => {
                self.end += text.bytes;
                self.builder = BlockBuilder::new(&self.shape);
                self.done.push(text.info);
                Ok(())
            }
            text => {
                self.cut()?;
                let what = text.map_or_else(|| "no text".to_owned(), |text| format!("not all of text `{}`", text.info));
                Err(Error::new(ErrorKind::Internal, format!("{}: {what} was written", self.name)))
            }
        }
    }

    /// Makes the file end where the last whole text does.
    fn cut(&mut self) -> Result<()> {
        self.text = None;
        self.builder = BlockBuilder::new(&self.shape);
        self.file.set_len(self.end).or_err(ErrorKind::Io, &self.name)?;
        self.file.seek(SeekFrom::Start(self.end)).or_err(ErrorKind::Io, &self.name)?;
        Ok(())
    }

    /// The vocabulary that rows must be masked to.
    pub fn vocabulary(&self) -> &SharedVocabulary {
        &self.shape.vocabulary
    }
}

fn same_header(name: &str, there: &TapeHeader, wanted: &TapeHeader) -> Result<()> {
    match there.difference(wanted) {
        None => Ok(()),
        Some((what, there, wanted)) => {
            let message = format!("{name}: the tape is of another experiment: its {what} is {there}, not {wanted}");
            Err(Error::new(ErrorKind::Incompatible, message).with_help("name another file, or delete this one"))
        }
    }
}
