//! Receipts sorted by a business key in their payload: what arrived, how often, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::receipt::Receipt;

/// For every value of a business key, the requests that carried it, in order of arrival.
#[derive(Debug, Default)]
pub struct Ledger<'a> {
    by_key: BTreeMap<String, Vec<&'a Receipt>>,
}

impl<'a> Ledger<'a> {
    /// Sorts receipts by what their body holds at `path` (see [`Receipt::at`]), for instance
    /// `data.attributes.properties.order_id`; receipts without it are left out.
    pub fn new(receipts: impl IntoIterator<Item = &'a Receipt>, path: &str) -> Self {
        let mut ledger = Self::default();
        for receipt in receipts {
            if let Some(value) = receipt.at(path) {
                ledger.by_key.entry(plain(value)).or_default().push(receipt);
            }
        }
        ledger
    }

    /// Sorts receipts by keys that a function finds in them: for requests that carry several messages.
    pub fn by<K: IntoIterator<Item = String>>(
        receipts: impl IntoIterator<Item = &'a Receipt>,
        mut keys: impl FnMut(&Receipt) -> K,
    ) -> Self {
        let mut ledger = Self::default();
        for receipt in receipts {
            for key in keys(receipt) {
                ledger.by_key.entry(key).or_default().push(receipt);
            }
        }
        ledger
    }

    /// Every key that arrived.
    pub fn keys(&self) -> BTreeSet<&str> {
        self.by_key.keys().map(String::as_str).collect()
    }

    /// The requests that carried a key, in order of arrival.
    pub fn of(&self, key: &str) -> &[&'a Receipt] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// How often a key was sent.
    pub fn sends(&self, key: &str) -> usize {
        self.of(key).len()
    }

    /// How often a key was sent and taken into the store.
    pub fn accepted(&self, key: &str) -> usize {
        self.of(key).iter().filter(|receipt| receipt.accepted).count()
    }

    /// Requests beyond the first of each key.
    pub fn resends(&self) -> usize {
        self.by_key.values().map(|receipts| receipts.len() - 1).sum()
    }

    /// Requests beyond the first accepted one of each key: what only a lost answer excuses.
    pub fn needless_resends(&self) -> usize {
        let after_accepted = |receipts: &Vec<&Receipt>| {
            let first = receipts.iter().position(|receipt| receipt.accepted);
            first.map_or(0, |first| receipts.len() - 1 - first)
        };
        self.by_key.values().map(after_accepted).sum()
    }

    /// Requests that came although the one before under the same key had been answered well: what only a crash, or a
    /// connection that broke on the way back, excuses.
    pub fn unexplained_resends(&self) -> usize {
        let answered_well = |receipt: &Receipt| {
            matches!(receipt.status, Some(200..=299))
                && matches!(receipt.fault.as_deref(), None | Some("latency"))
        };
        let after_such =
            |receipts: &Vec<&Receipt>| receipts.windows(2).filter(|pair| answered_well(pair[0])).count();
        self.by_key.values().map(after_such).sum()
    }

    /// Panics unless exactly these keys were accepted, each at least once; names some that differ.
    pub fn assert_accepted_exactly<S: ToString>(&self, expected: impl IntoIterator<Item = S>) {
        let expected: BTreeSet<String> = expected.into_iter().map(|key| key.to_string()).collect();
        let accepted: BTreeSet<String> =
            self.by_key.keys().filter(|key| self.accepted(key) > 0).cloned().collect();
        let missing: Vec<_> = expected.difference(&accepted).collect();
        let surplus: Vec<_> = accepted.difference(&expected).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "{} keys never accepted, for instance {:?}; {} accepted that should not be, for instance {:?}",
            missing.len(),
            &missing[..missing.len().min(5)],
            surplus.len(),
            &surplus[..surplus.len().min(5)]
        );
    }

    /// Panics unless, under every key, the values at `path` arrived in ascending order. After a later one was sent, only
    /// what had been accepted may come again, for a crash makes that necessary and it changes nothing, and what came
    /// together with the later one in a call that was not accepted.
    pub fn assert_ascending(&self, path: &str) {
        let mut compared = 0;
        for (key, receipts) in &self.by_key {
            let (mut highest, mut may_come_again) = (i64::MIN, BTreeSet::new());
            for (place, receipt) in receipts.iter().enumerate() {
                let Some(value) = receipt.at(path) else { continue };
                let number = value.as_f64().unwrap_or_else(|| panic!("{path} is not a number: {value}"));
                // Sequence numbers are whole; what is compared is exact below 2^53.
                #[expect(clippy::cast_possible_truncation, reason = "whole numbers of a test's own making")]
                let number = number as i64;
                assert!(
                    number >= highest || may_come_again.contains(&number),
                    "{key}: {number}, not accepted yet, arrived after {highest} (request {}):\n{}",
                    receipt.n,
                    history(receipts, path)
                );
                highest = highest.max(number);
                let with_a_later_one = receipts.get(place + 1).is_some_and(|next| next.n == receipt.n);
                if receipt.accepted || with_a_later_one {
                    may_come_again.insert(number);
                }
                compared += 1;
            }
        }
        assert!(compared > 0, "no request has {path}");
    }
}

/// What was sent under a key, a line each, for a person who must find out what went wrong.
fn history(receipts: &[&Receipt], path: &str) -> String {
    let line = |receipt: &&Receipt| {
        let Receipt { n, at_us, status, fault, accepted, .. } = receipt;
        format!(
            "{at_us} µs, request {n}: {:?}, {status:?}, {fault:?}, accepted: {accepted}\n",
            receipt.at(path)
        )
    };
    receipts.iter().map(line).collect()
}

/// A key as people write it: without the quotes of a JSON string.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn receipt(n: u64, order: u64, user: &str, accepted: bool) -> Receipt {
        let receipt = json!({
            "n": n, "at_us": n, "connection": 1, "version": "HTTP/2.0", "method": "POST", "path": "/api/events",
            "status": if accepted { 202 } else { 503 }, "accepted": accepted, "body": {"order": order, "user": user},
        });
        serde_json::from_value(receipt).unwrap()
    }

    #[test]
    fn sends_are_counted_by_key() {
        let receipts = [
            receipt(1, 7, "a", false),
            receipt(2, 7, "a", true),
            receipt(3, 7, "a", true),
            receipt(4, 8, "b", true),
        ];
        let ledger = Ledger::new(&receipts, "order");
        assert_eq!((ledger.sends("7"), ledger.accepted("7"), ledger.sends("9")), (3, 2, 0));
        assert_eq!((ledger.resends(), ledger.needless_resends(), ledger.unexplained_resends()), (2, 1, 1));
        assert_eq!(Ledger::by(&receipts, |receipt| [receipt.n.to_string()]).keys().len(), 4);
        ledger.assert_accepted_exactly([7, 8]);
        assert_eq!(Ledger::new(&receipts, "nothing.there").keys().len(), 0);
    }

    #[test]
    #[should_panic(expected = "1 keys never accepted")]
    fn a_key_that_was_only_refused_is_missing() {
        let receipts = [receipt(1, 7, "a", false)];
        Ledger::new(&receipts, "order").assert_accepted_exactly([7]);
    }

    #[test]
    fn a_repeat_does_not_break_the_order() {
        let receipts = [receipt(1, 1, "a", true), receipt(2, 2, "a", true), receipt(3, 1, "a", true)];
        Ledger::new(&receipts, "user").assert_ascending("order");
    }

    #[test]
    #[should_panic(expected = "1, not accepted yet, arrived after 2")]
    fn an_overtaken_message_breaks_the_order() {
        let receipts = [receipt(1, 2, "a", true), receipt(2, 1, "a", true)];
        Ledger::new(&receipts, "user").assert_ascending("order");
    }

    #[test]
    #[should_panic(expected = "1, not accepted yet, arrived after 2")]
    fn a_message_that_was_refused_first_can_be_overtaken_too() {
        let receipts = [receipt(1, 1, "a", false), receipt(2, 2, "a", true), receipt(3, 1, "a", true)];
        Ledger::new(&receipts, "user").assert_ascending("order");
    }

    #[test]
    #[should_panic(expected = "no request has order")]
    fn an_order_of_nothing_is_none() {
        Ledger::new(&[], "user").assert_ascending("order");
    }
}
