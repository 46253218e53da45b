//! Reading a tape.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use logitfuse_core::{Error, ErrorKind, Result, ResultExt, SharedVocabulary};

use super::{
    Block, Rest, TapeHeader, TextInfo,
    block::{Description, Shape},
    frame::{FRAME_HEADER, FrameHeader, MAGIC},
};

/// A reader of a tape. Opening one indexes its blocks without reading their rows.
#[derive(Debug)]
pub struct Tape<R> {
    name: String,
    input: R,
    header: TapeHeader,
    shape: Shape,
    texts: Vec<TapeText>,
    tail: Option<Tail>,
    end: u64,
}

/// A whole text on a tape.
#[derive(Clone, Debug)]
pub struct TapeText {
    /// What it is.
    pub info: TextInfo,
    /// Where its blocks begin.
    blocks: Vec<u64>,
}

/// The bytes after the last whole text, which a recorder that was killed leaves behind. Recording again cuts them off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where it begins.
    pub offset: u64,
    /// What it is.
    pub what: String,
}

impl Tape<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Io`]; [`ErrorKind::InvalidData`] for what is no tape, or for a damaged one,
    /// with the byte at which the damage begins.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, format!("{name}: {e}")).with_help("`logitfuse tape record` makes tapes")
        })?;
        Self::read(&name, BufReader::new(file))
    }
}

impl<R: Read + Seek> Tape<R> {
    /// Reads a tape from anything; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`open`](Tape::open).
    pub fn read(name: &str, mut input: R) -> Result<Self> {
        let io = |e| Error::new(ErrorKind::Io, format!("{name}: {e}"));
        let end = input.seek(SeekFrom::End(0)).map_err(io)?;
        input.rewind().map_err(io)?;
        let mut magic = [0; MAGIC.len()];
        if end < magic.len() as u64 || input.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Err(Error::new(ErrorKind::InvalidData, format!("{name}: not a tape"))
                .with_help("`logitfuse tape record` makes tapes"));
        }
        let at = |e: Error| e.context(format_args!("{name}: its header"));
        let Some((frame, description)) = next(name, &mut input, MAGIC.len() as u64, end)? else {
            return Err(Error::new(ErrorKind::InvalidData, format!("{name}: it ends before its header does"))
                .with_help("nothing was recorded yet: delete it and record again"));
        };
        if frame.payload != 0 || !frame.holds(&description, &[]) {
            return Err(damaged(name, MAGIC.len() as u64, "its checksum does not match"));
        }
        let header: TapeHeader =
            serde_json::from_slice(&description).or_err(ErrorKind::InvalidData, "not JSON of a tape").map_err(at)?;
        let vocabulary = header.vocabulary().map_err(at)?;
        let shape = Shape { kind: header.rows, sources: header.sources.len(), vocabulary };
        let start = MAGIC.len() as u64 + frame.len();
        let mut tape = Self { name: name.to_owned(), input, header, shape, texts: Vec::new(), tail: None, end: start };
        tape.index(end)?;
        Ok(tape)
    }

    /// Finds the blocks of all whole texts, and what follows them.
    fn index(&mut self, end: u64) -> Result<()> {
        let mut offset = self.end;
        let mut open: Option<(TapeText, usize)> = None;
        let mut keys = BTreeSet::new();
        while offset < end {
            let name = self.name.clone();
            let Some((frame, description)) = next(&name, &mut self.input, offset, end)? else {
                self.tail = Some(Tail { offset: self.end, what: format!("the block at byte {offset} is cut off") });
                return Ok(());
            };
            let description: Description = serde_json::from_slice(&description)
                .map_err(|e| damaged(&name, offset, &format!("a block that does not describe itself: {e}")))?;
            let (mut text, held) = match open.take() {
                None => (TapeText { info: description.text.clone(), blocks: Vec::new() }, 0),
                Some(open) => open,
            };
            if text.info != description.text || description.first != held {
                let what = format!("a block of `{}` follows position {held} of `{}`", description.text, text.info);
                return Err(damaged(&name, offset, &what));
            }
            let positions = description.columns.first().and_then(|c| c.shape.first().copied()).unwrap_or(0);
            let held = held.saturating_add(positions);
            text.blocks.push(offset);
            offset += frame.len();
            if positions > 0 && held < text.info.tokens {
                open = Some((text, held));
                continue;
            }
            if !keys.insert((text.info.id.clone(), text.info.choice)) {
                return Err(damaged(&name, offset, &format!("`{}` is there twice", text.info)));
            }
            self.texts.push(text);
            self.end = offset;
        }
        if let Some((text, held)) = open {
            let what = format!("`{}` ends after {held} of its {} tokens", text.info, text.info.tokens);
            self.tail = Some(Tail { offset: self.end, what });
        }
        Ok(())
    }

    /// Its header.
    pub fn header(&self) -> &TapeHeader {
        &self.header
    }

    /// The ids that its rows speak of.
    pub fn vocabulary(&self) -> &SharedVocabulary {
        &self.shape.vocabulary
    }

    /// The whole texts, in the order in which they were recorded.
    pub fn texts(&self) -> &[TapeText] {
        &self.texts
    }

    /// What follows the last whole text, if anything does.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// Where the last whole text ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Reads one block of a text: `number` counts from 0. `None` past the last one.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if its checksum does not match or its rows cannot be; [`ErrorKind::Io`].
    pub fn block(&mut self, text: usize, number: usize) -> Result<Option<Block>> {
        let Some(&offset) = self.texts.get(text).and_then(|text| text.blocks.get(number)) else { return Ok(None) };
        let name = &self.name;
        let Some((frame, description)) = next(name, &mut self.input, offset, u64::MAX)? else { return Ok(None) };
        let mut payload = Vec::new();
        self.input.by_ref().take(frame.payload).read_to_end(&mut payload).or_err(ErrorKind::Io, name)?;
        if !frame.holds(&description, &payload) {
            return Err(damaged(name, offset, "its checksum does not match"));
        }
        let whole = serde_json::from_slice(&description).map_err(|e| e.to_string());
        let block = whole.and_then(|description| Block::unpack(&self.shape, description, &payload));
        block.map(Some).map_err(|why| damaged(name, offset, &why))
    }

    /// Writes the row of a source at a position of a block, counted from the block's first, and returns its
    /// log-normaliser: the logits as they came (`f32`), or log-probabilities. Masked ids are `-inf`.
    ///
    /// # Panics
    /// If there is no such source or position, or `out` is not as wide as the vocabulary.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if what was recorded is no distribution.
    pub fn row(&self, block: &Block, source: usize, position: usize, rest: Rest, out: &mut [f32]) -> Result<f64> {
        block.row(&self.shape, source, position, rest, out).map_err(|e| {
            let place = block.first + position;
            let what = format!("{}: token {place} of `{}`, source {source}: {e}", self.name, block.text);
            Error::new(ErrorKind::InvalidData, what).with_help("record it again")
        })
    }
}

fn damaged(name: &str, offset: u64, what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{name}: damaged at byte {offset}: {what}"))
        .with_help("record it again, or bring back a copy; what lies before that byte is whole")
}

/// The header and the description of the frame at `offset`; `None` if it does not end before `end`.
fn next<R: Read + Seek>(name: &str, input: &mut R, offset: u64, end: u64) -> Result<Option<(FrameHeader, Vec<u8>)>> {
    input.seek(SeekFrom::Start(offset)).or_err(ErrorKind::Io, name)?;
    let left = end.saturating_sub(offset);
    let mut bytes = [0; FRAME_HEADER];
    if left < FRAME_HEADER as u64 {
        return Ok(None);
    }
    input.read_exact(&mut bytes).or_err(ErrorKind::Io, name)?;
    let frame = FrameHeader::parse(bytes).map_err(|what| damaged(name, offset, what))?;
    if frame.len() > left {
        return Ok(None);
    }
    let mut description = Vec::new();
    input.by_ref().take(u64::from(frame.description)).read_to_end(&mut description).or_err(ErrorKind::Io, name)?;
    Ok(Some((frame, description)))
}
