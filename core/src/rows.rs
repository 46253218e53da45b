use ndarray::{Array2, ArrayView1, ArrayView2, s};

/// Logits of one or more positions: `[rows, vocab]`, f32, row-major, every row contiguous.
///
/// The buffer keeps its capacity between calls, so a decode loop that asks for one row per token allocates once.
///
/// ```
/// use logitfuse_core::Rows;
///
/// let mut rows = Rows::new();
/// rows.reset(2, 4);
/// rows.row_mut(1).copy_from_slice(&[0.0, 1.0, 2.0, 3.0]);
/// assert_eq!(rows.row(1)[3], 3.0);
/// assert_eq!(rows.view().shape(), &[2, 4]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rows {
    // At least `len` rows; what lies beyond is capacity.
    data: Array2<f32>,
    len: usize,
}

impl Rows {
    /// An empty set of rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for `rows` rows of `vocab` entries. What the entries hold afterwards is unspecified: the writer must
    /// write every one.
    pub fn reset(&mut self, rows: usize, vocab: usize) {
        let (have, width) = self.data.dim();
        if width != vocab || have < rows {
            self.data = Array2::zeros((rows.max(if width == vocab { have } else { 0 }), vocab));
        }
        self.len = rows;
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of entries of each row.
    pub fn vocab(&self) -> usize {
        self.data.ncols()
    }

    /// All rows, `[rows, vocab]`, in standard layout.
    pub fn view(&self) -> ArrayView2<'_, f32> {
        self.data.slice(s![..self.len, ..])
    }

    /// One row as an array.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn row_view(&self, index: usize) -> ArrayView1<'_, f32> {
        ArrayView1::from(self.row(index))
    }

    /// One row as a slice.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn row(&self, index: usize) -> &[f32] {
        assert!(index < self.len, "row {index} of {}", self.len);
        let vocab = self.vocab();
        &self.as_slice()[index * vocab..(index + 1) * vocab]
    }

    /// One row to write.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.len, "row {index} of {}", self.len);
        let vocab = self.vocab();
        let all = self.data.as_slice_mut().expect("an owned Array2 that was never transposed is in standard layout");
        &mut all[index * vocab..(index + 1) * vocab]
    }

    fn as_slice(&self) -> &[f32] {
        self.data.as_slice().expect("an owned Array2 that was never transposed is in standard layout")
    }
}
