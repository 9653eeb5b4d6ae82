//! Which batches of the queue's file are where: read but not taken, held by a consumer, or done and waiting to be deleted.
//! Pure: the file itself is the caller's.

use std::collections::{HashMap, HashSet, VecDeque};

use seckill_core::{LedgerId, Message, OrderBatch, QueueDepth, Unread};

/// One row of the queue's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) orders: u64,
    pub(crate) body: Vec<u8>,
    /// Whose orders the file has.
    pub(crate) ledger: LedgerId,
}

/// Why a row is not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A newer program wrote it, in this version.
    Newer(u64),
    Park(String),
}

impl Row {
    /// The order batch in it.
    ///
    /// # Errors
    /// [`Unfit`].
    pub(crate) fn parse(&self) -> Result<OrderBatch, Unfit> {
        match Message::read(&self.body) {
            Ok(message) => match message.foreign_to(self.ledger) {
                None => Ok(message.batch),
                Some(reason) => Err(Unfit::Park(reason)),
            },
            Err(Unread::Newer(version)) => Err(Unfit::Newer(version)),
            Err(Unread::Unreadable(reason)) => Err(Unfit::Park(reason)),
        }
    }
}

/// Where reading goes on, and whether it was overtaken by what happened meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    after: i64,
    version: u64,
}

impl Place {
    /// The id after which the next page begins.
    pub(super) fn after(self) -> i64 {
        self.after
    }
}

/// The queue as consumers see it. It never has more bodies than one page.
pub(super) struct Shelf {
    /// Read from the file, and taken by nobody.
    ready: VecDeque<Row>,
    /// Every row up to here is ready, held, done or gone.
    place: Place,
    /// Held by a consumer, with their orders.
    held: HashMap<i64, u64>,
    /// Acknowledged or parked; still in the file until the writer's next transaction.
    done: HashSet<i64>,
    /// Rows in the file that are not done, and their orders. Signed, since after a commit in doubt a row may be done
    /// before it was counted.
    batches: i64,
    orders: i64,
}

impl Shelf {
    /// Nothing is read yet of a file with so many rows and orders.
    pub(super) fn new(batches: u64, orders: u64) -> Self {
        Self {
            ready: VecDeque::new(),
            place: Place { after: 0, version: 0 },
            held: HashMap::new(),
            done: HashSet::new(),
            batches: batches.cast_signed(),
            orders: orders.cast_signed(),
        }
    }

    pub(super) fn depth(&self) -> QueueDepth {
        let batches = u64::try_from(self.batches).unwrap_or_default();
        let ready_batches = batches.saturating_sub(self.held.len() as u64);
        QueueDepth { ready_batches, orders: Some(u64::try_from(self.orders).unwrap_or_default()) }
    }

    /// Gives out the next row; the caller holds it from now on.
    pub(super) fn take(&mut self) -> Option<Row> {
        let row = self.ready.pop_front()?;
        self.held.insert(row.id, row.orders);
        Some(row)
    }

    /// Where the next page is to be read.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Puts a page on the shelf that was read at `place`; `false`, and the page is to be read again, when rows came back
    /// or went away meanwhile that it may or may not have seen.
    pub(super) fn fill(&mut self, place: Place, page: Vec<Row>) -> bool {
        if place != self.place {
            return false;
        }
        let Some(last) = page.last() else { return true };
        self.place.after = last.id;
        let free = |row: &Row| !self.held.contains_key(&row.id) && !self.done.contains(&row.id);
        self.ready.extend(page.into_iter().filter(free));
        true
    }

    /// A held row is done with: nobody gets it again while this process lives.
    pub(super) fn finish(&mut self, id: i64) {
        if let Some(orders) = self.held.remove(&id) {
            self.done.insert(id);
            self.removed(1, orders);
        }
    }

    /// Held rows are held no longer. Reading goes back to the first of them.
    pub(super) fn give_back(&mut self, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            if self.held.remove(&id).is_some() {
                self.place.after = self.place.after.min(id - 1);
                self.place.version += 1;
                // What was read is behind the rows that came back, and is read again after them.
                self.ready.clear();
            }
        }
    }

    /// Done rows have left the file.
    pub(super) fn deleted(&mut self, ids: &[i64]) {
        for id in ids {
            self.done.remove(id);
            // A page that is being read may still show the row.
            self.place.version += u64::from(*id > self.place.after);
        }
    }

    /// Rows come into the file; said before they are there, so that nobody sees a row that was not counted.
    pub(super) fn added(&mut self, batches: u64, orders: u64) {
        self.batches += batches.cast_signed();
        self.orders += orders.cast_signed();
    }

    /// Rows are not in the file any more, or did not come into it after all.
    pub(super) fn removed(&mut self, batches: u64, orders: u64) {
        self.batches -= batches.cast_signed();
        self.orders -= orders.cast_signed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: LedgerId = LedgerId(uuid::Uuid::from_u128(7));

    fn row(id: i64) -> Row {
        Row { id, orders: 2, body: Vec::new(), ledger: OURS }
    }

    fn shelf_with(ids: std::ops::RangeInclusive<i64>) -> Shelf {
        let page: Vec<_> = ids.map(row).collect();
        let mut shelf = Shelf::new(page.len() as u64, 2 * page.len() as u64);
        assert!(shelf.fill(shelf.place(), page));
        shelf
    }

    fn depth(shelf: &Shelf) -> (u64, Option<u64>) {
        (shelf.depth().ready_batches, shelf.depth().orders)
    }

    #[test]
    fn rows_are_taken_in_order_and_counted_until_they_are_done() {
        let mut shelf = shelf_with(1..=3);
        assert_eq!(shelf.take().map(|row| row.id), Some(1));
        assert_eq!(shelf.take().map(|row| row.id), Some(2));
        assert_eq!(depth(&shelf), (1, Some(6)));
        shelf.finish(1);
        shelf.finish(1);
        assert_eq!(depth(&shelf), (1, Some(4)));
        shelf.added(1, 5);
        assert_eq!(depth(&shelf), (2, Some(9)));
    }

    #[test]
    fn rows_that_come_back_are_read_again_before_the_others() {
        let mut shelf = shelf_with(1..=4);
        (0..3).for_each(|_| drop(shelf.take()));
        shelf.finish(2);
        shelf.give_back([3, 1]);
        assert_eq!(shelf.take(), None, "what was read ahead comes after what came back");
        assert_eq!(shelf.place().after(), 0);
        assert!(shelf.fill(shelf.place(), (1..=4).map(row).collect()));
        let again: Vec<_> = std::iter::from_fn(|| shelf.take()).map(|row| row.id).collect();
        assert_eq!(again, [1, 3, 4], "the one that is done stays away though it is still in the file");
    }

    #[test]
    fn a_page_that_was_overtaken_is_read_again() {
        let mut shelf = shelf_with(1..=3);
        (0..3).for_each(|_| drop(shelf.take()));
        let before = shelf.place();
        shelf.give_back([2]);
        assert!(!shelf.fill(before, vec![row(4)]), "row 2 came back while the page was read");
        shelf.finish(3);
        let before = shelf.place();
        shelf.deleted(&[3]);
        assert!(!shelf.fill(before, vec![row(2), row(3)]), "row 3 left the file while the page was read");
        assert!(shelf.fill(shelf.place(), vec![row(2)]));
    }

    #[test]
    fn a_row_that_is_not_delivered_says_why() {
        let mut bad = row(1);
        assert!(matches!(bad.parse(), Err(Unfit::Park(_))));
        bad.body =
            br#"{"batch_id":"00000000-0000-0000-0000-000000000000","sale_id":1,"epoch":1,"orders":[]}"#
                .to_vec();
        let reason = "a batch has 1 to 256 orders; this one has 0";
        assert_eq!(bad.parse().unwrap_err(), Unfit::Park(reason.to_owned()));
        bad.body = br#"{"version":4}"#.to_vec();
        assert_eq!(bad.parse().unwrap_err(), Unfit::Newer(4));
        let marker = OrderBatch::marker(seckill_core::SaleId(1), 1, seckill_core::Marker::new(5));
        bad.body = Message::write(&marker, Some(LedgerId(uuid::Uuid::nil()))).into_bytes();
        assert!(matches!(bad.parse(), Err(Unfit::Park(reason)) if reason.contains("of the ledger")));
        bad.body = Message::write(&marker, Some(OURS)).into_bytes();
        assert_eq!(bad.parse().unwrap(), marker);
    }
}
