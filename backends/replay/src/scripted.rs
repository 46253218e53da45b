use std::fmt;

use logitfuse_core::{Error, ErrorKind, Result, TokenId};

use crate::{PrefixModel, PrefixSource};

/// A source that yields exactly the rows it is told.
///
/// ```
/// use logitfuse_core::{LogitSource, Rows, Step};
/// use logitfuse_replay::ScriptedSource;
///
/// let mut rows = Rows::new();
///
/// // A list: row `i` follows the first `i + 1` tokens, whichever they are.
/// let mut listed = ScriptedSource::from_rows("listed", 2, vec![vec![0.0, 1.0], vec![3.0, 2.0]]);
/// let sequence = listed.open()?;
/// listed.forward(&[Step { sequence, tokens: &[0, 0], rows: 1 }], &mut rows)?;
/// assert_eq!(rows.row(0), [3.0, 2.0]);
///
/// // A function of the tokens so far: here, logits that count them.
/// let mut counted = ScriptedSource::from_fn("counted", 3, |prefix| {
///     (0..3).map(|id| prefix.iter().filter(|&&t| t == id).count() as f32).collect()
/// });
/// let sequence = counted.open()?;
/// counted.forward(&[Step { sequence, tokens: &[2, 0, 2], rows: 1 }], &mut rows)?;
/// assert_eq!(rows.row(0), [1.0, 0.0, 2.0]);
/// # Ok::<(), logitfuse_core::Error>(())
/// ```
pub type ScriptedSource = PrefixSource<Script>;

type RowFn = dyn FnMut(&[TokenId]) -> Vec<f32> + Send;

/// The [`PrefixModel`] of a [`ScriptedSource`].
pub struct Script(Box<RowFn>);

impl ScriptedSource {
    /// Rows given up front: `rows[i]` follows the first `i + 1` tokens. The context is as long as the list.
    pub fn from_rows(name: &str, width: usize, rows: Vec<Vec<f32>>) -> Self {
        let count = rows.len();
        // The context limit keeps the index inside; an empty row is refused for its length should it ever not.
        let row = move |prefix: &[TokenId]| rows.get(prefix.len() - 1).cloned().unwrap_or_default();
        Self::from_fn(name, width, row).context_length(count)
    }

    /// Rows made by a function of the tokens so far, which are one at least.
    pub fn from_fn(name: &str, width: usize, row: impl FnMut(&[TokenId]) -> Vec<f32> + Send + 'static) -> Self {
        Self::with_model(name, width, Script(Box::new(row)))
    }
}

impl PrefixModel for Script {
    fn row(&mut self, prefix: &[TokenId], out: &mut [f32]) -> Result<()> {
        let row = (self.0)(prefix);
        if row.len() != out.len() {
            let what =
                format!("the scripted row after {} tokens has {} entries, not {}", prefix.len(), row.len(), out.len());
            return Err(Error::new(ErrorKind::InvalidData, what)
                .with_help("every row of a source has as many entries as the source is wide"));
        }
        out.copy_from_slice(&row);
        Ok(())
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}
