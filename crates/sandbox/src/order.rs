//! The order of a list, and the part of it that is a page.
//!
//! A page begins after the last row of the one before, which is named by what it is sorted by and not by its number: whatever
//! comes, goes or moves between two pages, no other row is left out or comes twice.

use std::collections::BTreeMap;
use std::ops::Bound;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// What a row is sorted by. Those without it come first.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Rank {
    Nothing,
    Number(i64),
    Text(String),
}

impl Rank {
    /// To the microsecond, as times are written.
    pub fn time(time: Timestamp) -> Self {
        Self::Number(time.as_microsecond())
    }

    pub fn text(text: Option<&str>) -> Self {
        text.map_or(Self::Nothing, |text| Self::Text(text.to_owned()))
    }
}

/// The place of a row in an order. The id tells those apart that are sorted by the same.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Key {
    pub rank: Rank,
    pub id: String,
}

impl Key {
    /// The first that a row of this rank could have.
    const fn first(rank: Rank) -> Self {
        Self { rank, id: String::new() }
    }

    /// The one after it: no id lies between.
    fn next(&self) -> Self {
        Self { rank: self.rank.clone(), id: format!("{}\0", self.id) }
    }
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    pub field: &'static str,
    pub is_descending: bool,
}

impl Order {
    pub const fn ascending(field: &'static str) -> Self {
        Self { field, is_descending: false }
    }

    /// Reads the parameter `sort`, of a list that can be sorted by these.
    pub fn parse(text: &str, known: &[&'static str]) -> Result<Self, ApiError> {
        let (is_descending, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text),
        };
        let field = known.iter().find(|known| **known == name);
        let invalid = || ApiError::parameter("sort", format!("'{text}' is nothing to sort by here."));
        Ok(Self { field: field.ok_or_else(invalid)?, is_descending })
    }

    /// As the parameter has it.
    pub fn text(self) -> String {
        let sign = if self.is_descending { "-" } else { "" };
        format!("{sign}{}", self.field)
    }
}

/// The rows of a page: so many of an order, after another.
#[derive(Debug, PartialEq)]
pub struct Slice {
    pub order: Order,
    pub after: Option<Key>,
    /// The first rank that may be asked for, and the first that is not any more. Others need not be looked at.
    pub from: Option<Rank>,
    pub to: Option<Rank>,
    pub size: usize,
}

/// A page.
#[derive(Debug, PartialEq)]
pub struct Rows<T> {
    pub rows: Vec<T>,
    /// The last of them, if there are more after it.
    pub last: Option<Key>,
}

impl Slice {
    /// The rows of an index in which those of the page are the first that are meant.
    pub fn of<'i>(&self, index: &'i BTreeMap<Key, usize>) -> Box<dyn Iterator<Item = (&'i Key, usize)> + 'i> {
        let mut low = Key::first(self.from.clone().unwrap_or(Rank::Nothing));
        let mut high = self.to.clone().map(Key::first);
        match &self.after {
            Some(after) if self.order.is_descending => {
                high = Some(high.map_or(after.clone(), |high| high.min(after.clone())));
            }
            Some(after) => low = low.max(after.next()),
            None => {}
        }
        // No range of a tree may end before it begins.
        if high.as_ref().is_some_and(|high| *high <= low) {
            return Box::new(std::iter::empty());
        }
        let range = index.range((Bound::Included(low), high.map_or(Bound::Unbounded, Bound::Excluded)));
        let rows = range.map(|(key, place)| (key, *place));
        if self.order.is_descending { Box::new(rows.rev()) } else { Box::new(rows) }
    }

    /// The page of rows that are in order and after the page before.
    pub fn page<T>(&self, rows: impl Iterator<Item = (Key, T)>) -> Rows<T> {
        let mut found: Vec<(Key, T)> = rows.take(self.size.saturating_add(1)).collect();
        let has_more = found.len() > self.size;
        found.truncate(self.size);
        let last = found.last().filter(|_| has_more).map(|(key, _)| key.clone());
        Rows { rows: found.into_iter().map(|(_, row)| row).collect(), last }
    }

    /// The page of rows that are few and in any order.
    pub fn page_of_few<T>(&self, mut rows: Vec<(Key, T)>) -> Rows<T> {
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        if self.order.is_descending {
            rows.reverse();
        }
        let is_after = |key: &Key| match &self.after {
            Some(after) if self.order.is_descending => key < after,
            Some(after) => key > after,
            None => true,
        };
        self.page(rows.into_iter().filter(|(key, _)| is_after(key)))
    }
}

/// A cursor: the order and the place in it, as the digits of a text that means nothing to anybody else.
pub fn cursor(order: Order, Key { rank, id }: &Key) -> String {
    let text = serde_json::json!([order.text(), rank, id]).to_string();
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The place that a cursor names, if it is one of this order.
pub fn key_at(cursor: &str, order: Order) -> Option<Key> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = cursor.as_bytes().as_chunks() else { return None };
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? * 16 + digit(low)?));
    let (of, rank, id): (String, Rank, String) =
        serde_json::from_slice(&bytes.collect::<Option<Vec<u8>>>()?).ok()?;
    (of == order.text()).then_some(Key { rank, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Order = Order::ascending("updated");
    const DOWN: Order = Order { is_descending: true, ..UP };

    fn key(rank: i64, id: &str) -> Key {
        Key { rank: Rank::Number(rank), id: id.to_owned() }
    }

    fn slice(order: Order, after: Option<Key>, size: usize) -> Slice {
        Slice { order, after, from: None, to: None, size }
    }

    fn index(ranks: &[i64]) -> BTreeMap<Key, usize> {
        ranks.iter().enumerate().map(|(place, rank)| (key(*rank, &place.to_string()), place)).collect()
    }

    /// The places on each page, which are read both from an index and from a heap.
    fn pages(index: &BTreeMap<Key, usize>, order: Order, size: usize) -> Vec<Vec<usize>> {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let slice = slice(order, after, size);
            let found = slice.page(slice.of(index).map(|(key, place)| (key.clone(), place)));
            let heap = index.iter().rev().map(|(key, place)| (key.clone(), *place)).collect();
            assert_eq!(slice.page_of_few(heap), found);
            pages.push(found.rows);
            let Some(last) = found.last else { return pages };
            after = key_at(&cursor(order, &last), order);
            assert_eq!(after, Some(last));
        }
    }

    #[test]
    fn pages_go_on_where_they_ended() {
        let index = index(&[5, 1, 3, 3, 3, 2]);
        assert_eq!(pages(&index, UP, 2), [[1, 5], [2, 3], [4, 0]]);
        assert_eq!(pages(&index, DOWN, 2), [[0, 4], [3, 2], [5, 1]]);
        assert_eq!(pages(&index, UP, 4), [&[1, 5, 2, 3][..], &[4, 0]]);
        assert_eq!(pages(&index, UP, 6), [[1, 5, 2, 3, 4, 0]]);
        assert_eq!(pages(&BTreeMap::new(), UP, 2), [[0; 0]]);
    }

    #[test]
    fn a_row_that_moves_away_takes_no_other_with_it() {
        let mut index = index(&[1, 2, 3, 4]);
        let last = slice(UP, None, 2).page(slice(UP, None, 2).of(&index).map(|(key, at)| (key.clone(), at)));
        assert_eq!(last.rows, [0, 1]);
        // The last row of the page is not there any more when the next is asked for.
        index.remove(&key(2, "1"));
        index.insert(key(9, "1"), 1);
        let rest: Vec<usize> = slice(UP, last.last, 9).of(&index).map(|(_, place)| place).collect();
        assert_eq!(rest, [2, 3, 1]);
    }

    #[test]
    fn what_is_not_asked_for_is_not_looked_at() {
        let index = index(&[1, 2, 3, 4]);
        let places = |order, from, to, after: Option<i64>| -> Vec<usize> {
            let rank = |number: Option<i64>| number.map(Rank::Number);
            let after = after.map(|rank| key(rank, "9"));
            let slice = Slice { order, after, from: rank(from), to: rank(to), size: 9 };
            slice.of(&index).map(|(_, place)| place).collect()
        };
        assert_eq!(places(UP, Some(2), Some(4), None), [1, 2]);
        assert_eq!(places(DOWN, Some(2), Some(4), None), [2, 1]);
        assert_eq!(places(UP, Some(2), None, Some(3)), [3]);
        assert_eq!(places(DOWN, None, Some(3), Some(9)), [1, 0]);
        for (from, to, after) in
            [(Some(4), Some(2), None), (Some(2), Some(2), None), (None, Some(2), Some(7))]
        {
            assert_eq!(places(UP, from, to, after), [0; 0]);
        }
    }

    #[test]
    fn those_without_come_first_and_cursors_say_of_what_they_are() {
        assert!(Rank::Nothing < Rank::Number(i64::MIN) && Rank::text(None) < Rank::text(Some("")));
        let key = Key { rank: Rank::text(Some("ä\"@shop.example")), id: "01X".to_owned() };
        let text = cursor(DOWN, &key);
        assert_eq!(key_at(&text, DOWN), Some(key));
        for wrong in ["", "7", "zz", "5b5d", &text[1..], &text[2..], &format!("{text}00")] {
            assert_eq!(key_at(wrong, DOWN), None, "{wrong}");
        }
        assert_eq!(key_at(&text, UP), None, "it is of another order");
    }
}
