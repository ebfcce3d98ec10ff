//! What is in import jobs of Klaviyo's, and what waits for them.

use std::sync::Arc;

use super::{Account, Class, Entry, Room};
use crate::import::ImportId;
use crate::key::{self, Identifier};
use crate::unique_id::UniqueId;

impl Room {
    /// Messages that were in memory are in a job from now on, which has locked these identifiers.
    pub fn enter_job(&mut self, account: &str, job: ImportId, seqs: &[i64], locks: Arc<[Identifier]>) {
        let entered: Vec<i64> = seqs.iter().copied().filter(|seq| self.take_out(*seq).is_some()).collect();
        // None is there any more where the account was removed meanwhile; of the job then nothing more is heard.
        if let Some(account) = self.accounts.get_mut(account).filter(|_| !entered.is_empty()) {
            account.in_jobs.extend(entered);
            account.parking.lock(job, locks);
        }
    }

    /// A message is in a job of before.
    pub fn follow(&mut self, account: &str, seq: i64) {
        self.accounts.entry(account.to_owned()).or_default().in_jobs.insert(seq);
    }

    /// A message is in a job no longer. Whether it was.
    pub fn leave_job(&mut self, account: &str, seq: i64) -> bool {
        self.accounts.get_mut(account).is_some_and(|account| account.in_jobs.remove(&seq))
    }

    /// Locks the keys of the messages of a job of before. Returns what is locked.
    pub fn lock_keys(&mut self, account: &str, job: ImportId, keys: &[Vec<String>]) -> Arc<[Identifier]> {
        keys.iter().for_each(|key| self.link(account, key));
        let of = self.accounts.entry(account.to_owned()).or_default();
        let locks = keys.iter().flat_map(|key| of.aliases.expand(&key::identifiers(key)));
        let locks: Arc<[Identifier]> = locks.collect();
        of.parking.lock(job, locks.clone());
        locks
    }

    /// A job is over.
    pub fn unlock(&mut self, account: &str, job: ImportId) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.parking.unlock(job);
        }
    }

    /// A message that was in memory has turned out to be about what a job has locked.
    pub fn park(&mut self, seq: i64, mut known_by: Vec<Identifier>) {
        // Not there any more where its account was removed meanwhile.
        let Some(Entry { account, class, unique_id, .. }) = self.take_out(seq) else { return };
        known_by.extend(unique_id.as_ref().map(key::of_unique_id));
        self.accounts.entry(account).or_default().parking.park(seq, class, known_by);
    }

    /// Numbers of parked messages of one account that are to be read again, so many at the most.
    pub fn due(&mut self, most: usize) -> Option<(String, Vec<i64>)> {
        let mut open = self.accounts.iter_mut().filter(|(_, account)| account.open);
        open.find_map(|(name, account)| {
            let Account { lanes, parking, .. } = account;
            let room = |class: &Class| lanes.get(class).is_none_or(|lane| lane.has_room(*class));
            let much = |class: &Class| lanes.get(class).is_none_or(|lane| lane.has_much_room(*class));
            let due = parking.due(room, much, most);
            (!due.is_empty()).then(|| (name.clone(), due))
        })
    }

    /// A parked message has been read again. Whether it is to be taken; else it stays parked.
    pub fn leaves_parking(
        &mut self,
        seq: i64,
        account: &str,
        class: Class,
        unique_id: Option<UniqueId>,
    ) -> bool {
        let Some(account) = self.accounts.get_mut(account) else { return false };
        let waits = unique_id.is_some_and(|id| account.riders_carry(&id));
        let room = account.has_room(class);
        account.parking.leaves(seq, class, room, waits)
    }

    /// A parked message is not in the outbox any more.
    pub fn unpark(&mut self, account: &str, seq: i64) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.parking.unpark(seq);
        }
    }
}
