//! The frames of a tape made by hand: a fuzzer guesses neither a checksum nor a compressed stream.

const MAGIC: &[u8] = b"\x93LFTAPE\n";
const PREFIX: usize = 20;
/// Between any two pieces.
const SEPARATOR: &[u8] = b"\n\n";

/// The same bytes with the checksums of all frames made right.
pub fn seal(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = MAGIC.len();
    while let Some((description, payload)) = lengths(&bytes, at) {
        let Some(end) = (at + PREFIX).checked_add(description).and_then(|end| end.checked_add(payload)) else { break };
        if end > bytes.len() {
            break;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[at + 4..at + 16]);
        crc.update(&bytes[at + PREFIX..end]);
        bytes[at + 16..at + PREFIX].copy_from_slice(&crc.sum().to_le_bytes());
        at = end;
    }
    bytes
}

/// A tape made of its pieces: the head, then a description and a payload, as it is before compression, for each block.
pub fn assemble(pieces: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let mut pieces = split(pieces);
    let mut head = true;
    while let Some(description) = pieces.next() {
        let payload = if std::mem::take(&mut head) { Vec::new() } else { stored(pieces.next().unwrap_or_default()) };
        bytes.extend(b"LFTB");
        bytes.extend((description.len() as u32).to_le_bytes());
        bytes.extend((payload.len() as u64).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(description);
        bytes.extend(payload);
    }
    seal(&bytes)
}

fn lengths(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let prefix = bytes.get(at..at + PREFIX)?;
    let description = u32::from_le_bytes(prefix[4..8].try_into().ok()?) as usize;
    Some((description, u64::from_le_bytes(prefix[8..16].try_into().ok()?) as usize))
}

fn split(mut pieces: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let cut = pieces.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let piece = &pieces[..cut.unwrap_or(pieces.len())];
        pieces = cut.map_or(&[], |cut| &pieces[cut + SEPARATOR.len()..]);
        ended = cut.is_none();
        Some(piece)
    })
}

/// A zlib stream that holds the bytes as they are: a compressor would be most of the time that a case takes.
fn stored(plain: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = plain.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        stream.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    let sums = plain.iter().fold((1, 0), |(a, b): (u32, u32), &byte| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (a + b) % 65521)
    });
    stream.extend((sums.1 << 16 | sums.0).to_be_bytes());
    stream
}
