//! Import jobs, between the HTTP thread that follows them and the outbox that their messages stand in.

use std::sync::Arc;

use delivery::{Command, ImportId, ImportReport, ImportStep};

use super::Worker;
use crate::outbox::import;
use crate::pg;
use crate::worker::process::transaction;

/// Messages of a job that are read in one go, where they need not come all at once.
const PART: usize = 1_000;

/// An import job that is over.
pub struct Over {
    account: Arc<str>,
    id: ImportId,
    in_doubt: bool,
    messages: usize,
    /// How many of them have been read again.
    read: usize,
}

impl Worker {
    /// Has import jobs of an earlier worker followed to their end. Before anything else is read: their keys are locked.
    pub(super) fn follow(&mut self) -> Result<(), String> {
        for job in transaction(c"reading import jobs", import::open) {
            let account = job.account.as_str().into();
            let import = transaction(c"reading an import job", || self.claimer.follow(job));
            self.tell(Command::Follow { account, import })?;
        }
        Ok(())
    }

    /// Reads messages of an import job that is over: some at a time, for they are many.
    pub(super) fn recall(&mut self) -> Result<(), String> {
        // Where nothing can be recorded nothing more is to wait for it.
        if self.recorder.again_at().is_some() {
            return Ok(());
        }
        let Some(over) = self.over.front_mut() else { return Ok(()) };
        let first = over.read;
        over.read = if over.in_doubt { over.messages } else { over.messages.min(first + PART) };
        let (account, id, last) = (over.account.clone(), over.id, over.read >= over.messages);
        let (part, payloads) = (first..over.read, over.in_doubt);
        let messages =
            transaction(c"reading an import job", || self.claimer.recall(&account, id, &part, payloads));
        if last {
            self.over.pop_front();
        }
        self.tell(Command::Recall { account, id, messages, last })
    }

    /// Does what is to be done once it is recorded how far import jobs have come. Returns whether that made room.
    pub(super) fn imports_stepped(&mut self, imports: Vec<(Arc<str>, ImportReport)>) -> bool {
        let announced = |(_, report): &(_, ImportReport)| matches!(report.step, ImportStep::Announced { .. });
        if imports.iter().any(announced) {
            // As what is handed over: none is asked for that a crash would undo.
            pg::transaction::flush();
        }
        let mut room = false;
        for (account, ImportReport { id, step }) in imports {
            match step {
                // In vain where the thread has ended, as it was told to.
                ImportStep::Announced { .. } => drop(self.tell(Command::Make { account, id })),
                ImportStep::Made { messages, locks, .. } => {
                    self.claimer.room.enter_job(&account, id, &messages, locks);
                    drop(self.tell(Command::Barred { account, id }));
                    room = true;
                }
                ImportStep::Over { in_doubt, messages } => {
                    self.over.push_back(Over { account, id, in_doubt, messages, read: 0 });
                }
                ImportStep::Ended { .. } => {
                    self.claimer.room.unlock(&account, id);
                    room = true;
                }
            }
        }
        room
    }
}
