//! Bodies with a list that is written entry by entry and never parsed again.

/// Such a body.
#[derive(Debug)]
pub struct ListBody {
    body: String,
    /// Bytes before the first entry.
    head: usize,
    tail: String,
}

impl ListBody {
    /// One of no entry yet, with what stands before and after the list.
    pub(crate) fn new(head: String, tail: String) -> Self {
        Self { head: head.len(), body: head, tail }
    }

    /// Adds an entry, JSON in parts. False, and nothing is added, if the body would become longer than `max` bytes.
    pub fn push(&mut self, entry: &[&str], max: usize) -> bool {
        let more = 1 + entry.iter().map(|part| part.len()).sum::<usize>();
        if self.body.len() + more + self.tail.len() > max {
            return false;
        }
        if self.body.len() > self.head {
            self.body.push(',');
        }
        entry.iter().for_each(|part| self.body.push_str(part));
        true
    }

    /// The body; of no entry none.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        (self.body.len() > self.head).then(|| {
            self.body.push_str(&self.tail);
            self.body.into_bytes()
        })
    }
}
