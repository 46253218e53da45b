//! The frames that a tape is made of: two lengths, a checksum, a description in JSON, a payload.
//!
//! ```text
//! tape   = MAGIC, frame (the header, without payload), frame (a block) …
//! frame  = "LFTB", u32 bytes of the description, u64 bytes of the payload, u32 CRC-32 of all but these 8 bytes,
//!          description, payload                                                          (little-endian)
//! ```

use flate2::Crc;
use logitfuse_core::{Error, ErrorKind, Result};

/// The first bytes of every tape: not text, and with a newline, so that a translation of newlines shows.
pub(super) const MAGIC: &[u8; 8] = b"\x93LFTAPE\n";
/// Bytes of a frame header.
pub(super) const FRAME_HEADER: usize = 20;
/// The longest description: ids of samples and hashes, not data.
pub(super) const MAX_DESCRIPTION: u32 = 1 << 24;

const TAG: &[u8; 4] = b"LFTB";

/// The fixed-size beginning of a frame: lengths and checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    pub(super) description: u32,
    pub(super) payload: u64,
    crc: u32,
}

impl FrameHeader {
    /// Parses it; an error says what is there instead.
    pub(super) fn parse(bytes: [u8; FRAME_HEADER]) -> Result<Self, &'static str> {
        let [a, b, c, d, rest @ ..] = bytes;
        if [a, b, c, d] != *TAG {
            return Err("no block begins there");
        }
        let [d0, d1, d2, d3, p0, p1, p2, p3, p4, p5, p6, p7, c0, c1, c2, c3] = rest;
        let header = Self {
            description: u32::from_le_bytes([d0, d1, d2, d3]),
            payload: u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
        };
        if header.description > MAX_DESCRIPTION {
            return Err("a block begins there whose lengths cannot be true");
        }
        Ok(header)
    }

    /// Bytes of the whole frame.
    pub(super) fn len(self) -> u64 {
        (FRAME_HEADER as u64 + u64::from(self.description)).saturating_add(self.payload)
    }

    /// Whether the frame is what was written.
    pub(super) fn holds(self, description: &[u8], payload: &[u8]) -> bool {
        crc(description, payload) == Some(self.crc)
    }
}

/// The bytes of a frame.
pub(super) fn frame(description: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    let too_long = || Error::new(ErrorKind::Unsupported, "tape: a block is too long to be written");
    let length = u32::try_from(description.len()).ok().filter(|&bytes| bytes <= MAX_DESCRIPTION);
    let crc = crc(description, payload).ok_or_else(too_long)?;
    let mut bytes = Vec::with_capacity(FRAME_HEADER + description.len() + payload.len());
    bytes.extend(TAG);
    bytes.extend(length.ok_or_else(too_long)?.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(crc.to_le_bytes());
    bytes.extend(description);
    bytes.extend(payload);
    Ok(bytes)
}

/// CRC-32 (that of zlib) of the lengths, the description and the payload.
fn crc(description: &[u8], payload: &[u8]) -> Option<u32> {
    let mut crc = Crc::new();
    crc.update(&u32::try_from(description.len()).ok()?.to_le_bytes());
    crc.update(&(payload.len() as u64).to_le_bytes());
    crc.update(description);
    crc.update(payload);
    Some(crc.sum())
}
