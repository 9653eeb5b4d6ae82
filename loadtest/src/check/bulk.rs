//! Looks up all orders in the list of a sale's recorded orders, which an admin may read. The list also shows what no single
//! buyer can see: units sold above the stock, and users with two orders.

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use hyper::header::HeaderValue;

use crate::check::lines::{Lines, number};
use crate::check::verify::{End, Followed, OrderState, Status, VerifySettings};
use crate::error::Error;
use crate::send::client::{Clients, Failure};
use crate::send::run::Order;
use crate::send::template::Template;

/// The first line of the list.
const HEAD: &[u8] = b"order_id,user_id,quantity,status,accepted_at_ms,recorded_at_ms";
const DOING: &str = "read the sale's recorded orders";

/// The totals of the list: all orders of the sale, also those of other buyers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recorded {
    pub orders: u64,
    /// Units of the orders that are in the ledger and have not given them back.
    pub committed_units: u64,
    /// Users with two such orders.
    pub users_sold_twice: u64,
}

/// Reads the list of the sale's recorded orders and looks up every order in it. Call it after the queue has drained. Orders that
/// are not in the list have no final row in the result. `None`: `cancel` ended it before the list was read.
///
/// # Errors
/// [`Error::Shop`] when the list cannot be read to its end.
pub(crate) async fn look_up(
    clients: &Clients,
    sale_id: u64,
    admin: &HeaderValue,
    orders: &[Order],
    settings: &VerifySettings,
    cancel: &CancellationToken,
) -> Result<Option<(Followed, Recorded)>, Error> {
    let mut list = List::new(Followed::new(orders, settings.started_at), settings);
    let reading = read(clients, sale_id, admin, &mut list);
    let Some(read) = cancel.run_until_cancelled(reading).await else { return Ok(None) };
    read?;
    let recorded = list.recorded();
    Ok(Some((list.followed, recorded)))
}

async fn read(clients: &Clients, sale_id: u64, admin: &HeaderValue, list: &mut List) -> Result<(), Error> {
    let wrong = |reason: String| Error::Shop { doing: DOING, reason };
    let path = clients.target().path(&format!("/api/v1/sales/{sale_id}/audit/orders"));
    let uri = path.try_into().expect("the path of a URL, and a number, make a path");
    let request = Template::get(clients.target()).request(uri, admin.clone());
    let status = clients.another().stream(request, |piece| list.take(piece)).await;
    match status.map_err(|failure: Failure| wrong(failure.to_string()))? {
        200 => list.end().map_err(wrong),
        401 | 403 => Err(wrong("the server does not take the admin token".to_owned())),
        status => Err(wrong(format!("the server answers {status}"))),
    }
}

/// The list while it arrives in pieces.
struct List {
    followed: Followed,
    /// Places in `followed`, by order id.
    by_id: Vec<u32>,
    lines: Lines,
    orders: u64,
    committed_units: u64,
    /// The user of every order that is in the ledger and has not given its units back.
    users: Vec<u64>,
    looked_up: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl List {
    fn new(followed: Followed, settings: &VerifySettings) -> Self {
        let count = u32::try_from(followed.checks.len()).expect("a plan has fewer requests than that");
        let mut by_id: Vec<u32> = (0..count).collect();
        by_id.sort_unstable_by_key(|&at| followed.checks[at as usize].order.order_id);
        let looked_up = settings.looked_up.clone();
        let (lines, users) = (Lines::default(), Vec::new());
        Self { followed, by_id, lines, orders: 0, committed_units: 0, users, looked_up }
    }

    fn take(&mut self, piece: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.take(piece, |number, line| self.line(number, line));
        self.lines = lines;
    }

    fn line(&mut self, number: u64, line: &[u8]) -> bool {
        if number == 1 { line == HEAD } else { line.is_empty() || self.row(line).is_some() }
    }

    fn row(&mut self, line: &[u8]) -> Option<()> {
        let mut fields = line.split(|&byte| byte == b',');
        let order_id = Uuid::try_parse_ascii(fields.next()?).ok()?;
        let user = number(fields.next()?)?;
        let quantity = number(fields.next()?)?;
        let status = Status::read(fields.next()?).filter(|status| status.end().is_final())?;
        let end = status.end();
        let recorded_ms = number(fields.nth(1)?)?;
        self.orders += 1;
        if end == End::Committed && !status.has_ended() {
            self.committed_units += quantity;
            self.users.push(user);
        }
        let checks = &self.followed.checks;
        let first = self.by_id.partition_point(|&at| checks[at as usize].order.order_id < order_id);
        // Two buyers may have been given the same order id. Both are found.
        let same = |&&at: &&u32| self.followed.checks[at as usize].order.order_id == order_id;
        let found: Vec<u32> = self.by_id[first..].iter().take_while(same).copied().collect();
        for at in found {
            self.followed
                .set(at as usize, OrderState { end, status: Some(status), recorded_ms: Some(recorded_ms) });
            self.looked_up.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Some(())
    }

    /// Checks the whole list after its last piece.
    fn end(&mut self) -> Result<(), String> {
        let mut lines = std::mem::take(&mut self.lines);
        lines.end(|number, line| self.line(number, line))
    }

    fn recorded(&mut self) -> Recorded {
        self.users.sort_unstable();
        let users = std::mem::take(&mut self.users);
        let twice = users.chunk_by(|one, other| one == other).filter(|same| same.len() > 1).count();
        Recorded {
            orders: self.orders,
            committed_units: self.committed_units,
            users_sold_twice: twice as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> Vec<Order> {
        let order =
            |buyer: u32, id: u128| Order { buyer, order_id: Uuid::from_u128(id), promised: true, due_us: 0 };
        vec![order(0, 9), order(1, 5), order(2, 7)]
    }

    fn list() -> List {
        List::new(Followed::new(&orders(), None), &VerifySettings::default())
    }

    fn csv(rows: &[(u128, u64, u64, &str)]) -> Vec<u8> {
        let mut text = format!("{}\n", String::from_utf8_lossy(HEAD));
        for (id, user, quantity, status) in rows {
            text += &format!("{},{user},{quantity},{status},1,2\n", Uuid::from_u128(*id));
        }
        text.into_bytes()
    }

    #[test]
    fn orders_are_found_in_pieces_of_any_size() {
        let text = csv(&[(5, 1, 2, "committed"), (6, 1, 1, "committed"), (9, 3, 1, "rejected")]);
        for size in [1, 7, 64, text.len()] {
            let mut list = list();
            text.chunks(size).for_each(|piece| list.take(piece));
            list.end().unwrap();
            let ends: Vec<End> = list.followed.checks.iter().map(|check| check.end).collect();
            assert_eq!(ends, [End::Rejected, End::Committed, End::Unclear]);
            let recorded = Recorded { orders: 3, committed_units: 3, users_sold_twice: 1 };
            assert_eq!(list.recorded(), recorded);
        }
    }

    #[test]
    fn an_order_that_was_paid_cancelled_or_refunded_has_reached_the_ledger() {
        let words = ["paid", "cancelled", "refunding", "refund_held", "refunded"];
        for word in words {
            let mut list = list();
            list.take(&csv(&[(5, 1, 2, word), (7, 1, 2, word)]));
            list.end().unwrap();
            let ends: Vec<End> = list.followed.checks.iter().map(|check| check.end).collect();
            assert_eq!(ends, [End::Unclear, End::Committed, End::Committed], "{word}");
            // Units that were given back are on sale again, and their buyer may order again.
            let ended = matches!(word, "cancelled" | "refunded");
            let (committed_units, users_sold_twice) = if ended { (0, 0) } else { (4, 1) };
            assert_eq!(list.recorded(), Recorded { orders: 2, committed_units, users_sold_twice }, "{word}");
        }
    }

    #[test]
    fn a_text_that_is_not_such_a_list_is_refused() {
        let mut too_long = csv(&[]);
        too_long.extend(vec![b'x'; 5_000]);
        let bad = [
            b"".to_vec(),
            b"{}\n".to_vec(),
            csv(&[(5, 1, 1, "lost")]),
            csv(&[(5, 1, 1, "queued")]),
            csv(&[]).repeat(2),
            too_long,
        ];
        for text in bad {
            let mut list = list();
            list.take(&text);
            assert!(list.end().is_err(), "{}", String::from_utf8_lossy(&text));
        }
    }
}
