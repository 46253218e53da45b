//! Longest common subsequences.

use std::collections::BTreeSet;

/// The length of a longest common subsequence.
pub(super) fn length(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

/// The positions in a line of the tokens that belong to its longest common subsequence with any of the others.
pub(super) fn united(line: &[String], others: &[Vec<String>]) -> BTreeSet<usize> {
    others.iter().flat_map(|other| positions(line, other)).collect()
}

/// The positions in `a` of one longest common subsequence: the one that `rouge_score` reads out of the table. Which one it
/// is matters once several lines' are united.
fn positions(a: &[String], b: &[String]) -> Vec<usize> {
    let width = b.len() + 1;
    let mut table = vec![0_u32; (a.len() + 1) * width];
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let (above, left) = (table[(i - 1) * width + j], table[i * width + j - 1]);
            let longest = if a[i - 1] == b[j - 1] { table[(i - 1) * width + j - 1] + 1 } else { above.max(left) };
            table[i * width + j] = longest;
        }
    }
    let (mut i, mut j) = (a.len(), b.len());
    let mut positions = Vec::new();
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            positions.push(i - 1);
            i -= 1;
            j -= 1;
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    positions
}
