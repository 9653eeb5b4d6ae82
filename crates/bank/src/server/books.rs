//! What the bank knows: charges and refunds, and the rules by which new ones are decided. No I/O.

use std::collections::HashMap;

use seckill_core::{BankAnswer, Charge, GiveBack, OrderId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::notice::{BankNotice, NoticeKind};

/// The card that is declined.
const DECLINED_CARD: &str = "tok_declined";

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Charge(Charge),
    Refund(GiveBack),
}

/// What has happened: a line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Entry {
    Charge(Done<Charge>),
    Refund(Done<GiveBack>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done<T> {
    #[serde(flatten)]
    pub(super) wanted: T,
    #[serde(flatten)]
    pub(super) answer: BankAnswer,
    pub(super) created_at: Timestamp,
}

/// What the books say to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing like it has happened; this has now.
    New(Entry),
    /// It happened before, and has no second effect.
    Known(Entry),
    /// The key stands for something else.
    Differs,
}

/// Money that has moved.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    charges: u64,
    charged_cents: u64,
    refunds: u64,
    refunded_cents: u64,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    charges: HashMap<Uuid, Account>,
    refunds: HashMap<Uuid, Done<GiveBack>>,
    by_order: HashMap<OrderId, Vec<Uuid>>,
    /// The keys of the charges, oldest first.
    in_order: Vec<Uuid>,
    totals: Totals,
}

#[derive(Debug)]
struct Account {
    charge: Done<Charge>,
    refunded_cents: u64,
}

impl Account {
    fn left(&self) -> u64 {
        match self.charge.answer {
            BankAnswer::Succeeded => self.charge.wanted.amount_cents.saturating_sub(self.refunded_cents),
            BankAnswer::Declined { .. } => 0,
        }
    }
}

impl Books {
    /// Does what is wanted, unless its key has been used.
    pub(super) fn ask(&mut self, wanted: Wanted, now: Timestamp) -> Asked {
        let entry = match wanted {
            Wanted::Charge(wanted) => match self.charges.get(&wanted.key) {
                Some(known) if known.charge.wanted == wanted => {
                    return Asked::Known(Entry::Charge(known.charge.clone()));
                }
                Some(_) => return Asked::Differs,
                None => Entry::Charge(Done { answer: decide_charge(&wanted), wanted, created_at: now }),
            },
            Wanted::Refund(wanted) => match self.refunds.get(&wanted.key) {
                Some(known) if known.wanted == wanted => return Asked::Known(Entry::Refund(known.clone())),
                Some(_) => return Asked::Differs,
                None => Entry::Refund(Done { answer: self.decide_refund(&wanted), wanted, created_at: now }),
            },
        };
        self.enter(entry.clone());
        Asked::New(entry)
    }

    fn decide_refund(&self, wanted: &GiveBack) -> BankAnswer {
        let declined = |reason: String| BankAnswer::Declined { reason };
        match self.charges.get(&wanted.charge) {
            None => declined(format!("There is no charge {}.", wanted.charge)),
            Some(account) if account.left() < wanted.amount_cents => declined(format!(
                "The charge has {} cents left; {} cannot be given back.",
                account.left(),
                wanted.amount_cents
            )),
            Some(_) => BankAnswer::Succeeded,
        }
    }

    /// Takes up what has happened, now or in an earlier life of the process.
    pub(super) fn enter(&mut self, entry: Entry) {
        match entry {
            Entry::Charge(charge) => {
                let Charge { key, order_id, amount_cents, .. } = charge.wanted;
                if charge.answer == BankAnswer::Succeeded {
                    self.totals.charges += 1;
                    self.totals.charged_cents = self.totals.charged_cents.saturating_add(amount_cents);
                }
                self.by_order.entry(order_id).or_default().push(key);
                self.in_order.push(key);
                self.charges.insert(key, Account { charge, refunded_cents: 0 });
            }
            Entry::Refund(refund) => {
                let GiveBack { key, charge, amount_cents } = refund.wanted;
                if refund.answer == BankAnswer::Succeeded
                    && let Some(account) = self.charges.get_mut(&charge)
                {
                    account.refunded_cents += amount_cents;
                    self.totals.refunds += 1;
                    self.totals.refunded_cents = self.totals.refunded_cents.saturating_add(amount_cents);
                }
                self.refunds.insert(key, refund);
            }
        }
    }

    pub(super) fn charge(&self, key: Uuid) -> Option<Entry> {
        self.charges.get(&key).map(|account| Entry::Charge(account.charge.clone()))
    }

    pub(super) fn refund(&self, key: Uuid) -> Option<Entry> {
        self.refunds.get(&key).cloned().map(Entry::Refund)
    }

    /// The charges for an order, oldest first.
    pub(super) fn charges_of(&self, order: OrderId) -> Vec<Entry> {
        let keys = self.by_order.get(&order).into_iter().flatten();
        keys.filter_map(|key| self.charge(*key)).collect()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// All charges as CSV, oldest first. No field needs quotes.
    pub(super) fn csv(&self) -> String {
        let mut text = String::from("key,order_id,amount_cents,status,refunded_cents\n");
        for account in self.in_order.iter().filter_map(|key| self.charges.get(key)) {
            let Charge { key, order_id, amount_cents, .. } = &account.charge.wanted;
            let status = match account.charge.answer {
                BankAnswer::Succeeded => "succeeded",
                BankAnswer::Declined { .. } => "declined",
            };
            let refunded = account.refunded_cents;
            text.push_str(&format!("{key},{order_id},{amount_cents},{status},{refunded}\n"));
        }
        text
    }

    /// What a webhook says of an entry.
    pub(super) fn notice(&self, entry: &Entry) -> BankNotice {
        match entry {
            Entry::Charge(Done { wanted, answer, .. }) => BankNotice {
                kind: NoticeKind::of_charge(answer),
                key: wanted.key,
                order_id: Some(wanted.order_id),
            },
            Entry::Refund(Done { wanted, answer, .. }) => BankNotice {
                kind: NoticeKind::of_refund(answer),
                key: wanted.key,
                order_id: self.charges.get(&wanted.charge).map(|account| account.charge.wanted.order_id),
            },
        }
    }
}

fn decide_charge(wanted: &Charge) -> BankAnswer {
    if wanted.card == DECLINED_CARD {
        BankAnswer::Declined { reason: "The card was declined.".to_owned() }
    } else {
        BankAnswer::Succeeded
    }
}
