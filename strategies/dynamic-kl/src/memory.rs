use logitfuse_core::{Error, ErrorKind, Result};

/// A record of numbers for every committed token, so that undoing a token is one `truncate`.
///
/// A step proposes a record; committing its token keeps it. Tokens that were committed without a step of their own get a
/// copy of the record before them.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    width: usize,
    /// The records end to end; the first is that of no token.
    records: Vec<f64>,
    proposed: Vec<f64>,
    has_proposed: bool,
}

impl Memory {
    /// The memory of no token.
    pub(crate) fn new(start: Vec<f64>) -> Self {
        Self { width: start.len(), proposed: start.clone(), records: start, has_proposed: false }
    }

    /// The record of the last committed token.
    pub(crate) fn last(&self) -> &[f64] {
        &self.records[self.records.len() - self.width..]
    }

    /// How many tokens were committed.
    pub(crate) fn tokens(&self) -> usize {
        self.records.len() / self.width - 1
    }

    /// Proposes the record of the next token, given the last one and a copy of it to change.
    pub(crate) fn propose(&mut self, change: impl FnOnce(&mut [f64])) {
        let last = self.records.len() - self.width;
        self.proposed.copy_from_slice(&self.records[last..]);
        change(&mut self.proposed);
        self.has_proposed = true;
    }

    /// The record that was proposed last.
    pub(crate) fn proposed(&self) -> &[f64] {
        &self.proposed
    }

    pub(crate) fn commit(&mut self, tokens: usize) {
        for _ in 0..tokens {
            let last = self.records.len() - self.width;
            if self.has_proposed {
                self.records.extend_from_slice(&self.proposed);
            } else {
                self.records.extend_from_within(last..);
            }
            self.has_proposed = false;
        }
    }

    pub(crate) fn rollback(&mut self, tokens: usize) -> Result<()> {
        if tokens > self.tokens() {
            let what = format!("rollback: {tokens} tokens of {} that were committed", self.tokens());
            return Err(Error::new(ErrorKind::Internal, what).with_help("this is a bug in what drives the strategy"));
        }
        self.records.truncate(self.records.len() - tokens * self.width);
        self.has_proposed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_without_a_step_repeat_the_last_record() {
        let mut memory = Memory::new(vec![0.0]);
        memory.propose(|record| record[0] += 1.0);
        memory.propose(|record| record[0] += 2.0);
        assert_eq!((memory.last(), memory.proposed()), (&[0.0][..], &[2.0][..]));
        memory.commit(3);
        assert_eq!((memory.tokens(), memory.last()), (3, &[2.0][..]));
        memory.propose(|record| record[0] += 5.0);
        memory.commit(1);
        assert_eq!(memory.last(), [7.0]);
        memory.rollback(1).expect("one of four");
        memory.commit(1);
        assert_eq!(memory.last(), [2.0]);
        memory.rollback(4).expect("all");
        assert_eq!((memory.tokens(), memory.last()), (0, &[0.0][..]));
        assert_eq!(memory.rollback(1).expect_err("none left").kind(), ErrorKind::Internal);
    }
}
