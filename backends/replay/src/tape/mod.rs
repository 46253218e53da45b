//! Tapes: the rows of several sources along given texts, recorded once and read without any model.
//!
//! # Why
//!
//! A strategy is a function of rows. Tuning its strength runs the models on the same texts again and again, for the same rows.
//! A tape stores these: every source's rows at every position of a text that was fed to it token by token. Fusing them takes
//! microseconds.
//!
//! ```
//! use logitfuse_core::{SharedVocabulary, RoleRow};
//! use logitfuse_replay::{Rest, RowKind, Tape, TapeHeader, TapeSource, TapeVocabulary, TapeWriter, TextInfo};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("toy.lftape");
//! let source = TapeSource {
//!     name: "toy".into(), session: "toy".into(), roles: vec!["base".into()], model: "toy".into(), sha256: String::new(),
//! };
//! let header = TapeHeader {
//!     schema: 1,
//!     rows: RowKind::TopK(2),
//!     sources: vec![source],
//!     vocabulary: TapeVocabulary::new(&SharedVocabulary::new(4, [])),
//!     tokenizer: String::new(), reference: "answer".into(), config: String::new(),
//! };
//! let text = TextInfo {
//!     id: "first".into(), choice: None, gold: false, bytes: 3, characters: 3, tokens: 1, sha256: String::new(),
//! };
//! // One position, where the text has token 2. Probabilities are 4/8, 2/8, 1/8, 1/8.
//! let logits = [4_f32.ln(), 2_f32.ln(), 0.0, 0.0];
//! let mut writer = TapeWriter::open(&path, &header)?;
//! writer.begin(text)?;
//! writer.push(2, &[RoleRow::new(&logits, 8_f64.ln(), 0.0)])?;
//! writer.finish()?;
//! drop(writer);
//!
//! let mut tape = Tape::open(&path)?;
//! let block = tape.block(0, 0)?.unwrap();
//! // The best two and the text's own token are known; what is left goes to the one that is not.
//! assert_eq!(block.known(0), Some(&[0, 1, 2][..]));
//! let mut row = [0.0; 4];
//! tape.row(&block, 0, 0, Rest::Spread, &mut row)?;
//! assert!((row[0].exp() - 0.5).abs() < 1e-6 && (row[3].exp() - 0.125).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! Numbers are little-endian. `docs/tape.md` says the same with a reader in Python.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `\x93LFTAPE\n` |
//! | frame | the header: a [`TapeHeader`] as JSON, no payload |
//! | frame … | blocks: each some consecutive positions of one text, a [`TextInfo`] with its columns |
//!
//! | bytes of a frame | what |
//! |---|---|
//! | 4 | `LFTB` |
//! | 4, 8 | lengths of description and payload |
//! | 4 | CRC-32 of the lengths, the description and the payload |
//! | | the description: JSON; `columns` lists names, numpy types and shapes |
//! | | the payload: one zlib stream of the columns, one after another, each with its bytes grouped by significance |
//!
//! | column | shape | of | unit |
//! |---|---|---|---|
//! | `tokens` | position | all | ids of the text |
//! | `prompt_log_probs` | source | all | nats; NaN if the prompts were not scored |
//! | `prompt_tokens` | source | all | how many tokens that is the sum of |
//! | `log_normalisers` | source, position | all | nats; of the rows as they came |
//! | `logits` | source, position, width | `f32` | as they came, `-inf` where masked |
//! | `log_probs` | source, position, width | `f16` | nats |
//! | `offsets`, `ids` | position + 1; kept | `top-k` | the ids kept at position `p` are `ids[offsets[p]:offsets[p+1]]`, for all sources |
//! | `log_probs` | source, kept | `top-k` | nats |
//! | `log_rests` | source, position | `top-k` | nats; log of the mass of all ids that were not kept |

mod block;
mod columns;
mod frame;
mod header;
mod reader;
mod writer;

pub use block::{Block, Rest};
pub use header::{RowKind, SCHEMA, TapeHeader, TapeSource, TapeVocabulary, TextInfo};
pub use reader::{Tail, Tape, TapeText};
pub use writer::TapeWriter;
