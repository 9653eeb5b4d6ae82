use super::*;
use crate::RoomTerms;

fn sale() -> NewSale {
    NewSale {
        name: "phone".into(),
        product: None,
        stock: 10,
        price_cents: 100,
        currency: "USD".into(),
        per_user_limit: 1,
        starts_at: crate::now(),
        ends_at: crate::now() + chrono::Duration::hours(1),
        payment_window_ms: None,
        require_ticket: false,
        tickets_from: None,
        ticket_ttl_ms: None,
        proof_of_work: false,
        waiting_room: None,
    }
}

#[test]
fn a_good_sale_passes() {
    assert_eq!(sale().check(), Ok(()));
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let mut bad = sale();
    // Blanks count: they are stored.
    bad.name = " ".repeat(200) + "x";
    bad.product = Some(" ".into());
    bad.stock = 0;
    bad.price_cents = NewSale::MAX_PRICE_CENTS + 1;
    bad.currency = "usd".into();
    bad.per_user_limit = 0;
    bad.payment_window_ms = Some(999);
    bad.ends_at = bad.starts_at;
    let fields: Vec<_> = bad.check().unwrap_err().into_iter().map(|e| e.field).collect();
    assert_eq!(
        fields,
        [
            "name",
            "product",
            "stock",
            "price_cents",
            "currency",
            "per_user_limit",
            "payment_window_ms",
            "ends_at"
        ]
    );
}

#[test]
fn the_window_is_half_open() {
    let sale = Sale::new(SaleId(1), sale());
    let tick = chrono::Duration::milliseconds(1);
    assert_eq!(sale.phase(sale.starts_at - tick), Phase::Upcoming);
    assert_eq!(sale.phase(sale.starts_at), Phase::Open);
    assert_eq!(sale.phase(sale.ends_at - tick), Phase::Open);
    assert_eq!(sale.phase(sale.ends_at), Phase::Closed);
}

#[test]
fn the_years_and_the_payment_window_have_bounds() {
    let year = |from: i32, to: i32| {
        let at = |year| chrono::TimeZone::with_ymd_and_hms(&chrono::Utc, year, 6, 1, 0, 0, 0).unwrap();
        NewSale { starts_at: at(from), ends_at: at(to), ..sale() }.check().is_ok()
    };
    assert!(year(2000, 2999));
    assert!(!year(1999, 2999) && !year(2000, 3000));
    let window = |ms| NewSale { payment_window_ms: Some(ms), ..sale() }.check().is_ok();
    assert!(window(1_000) && window(2_592_000_000));
    assert!(!window(999) && !window(2_592_000_001));
}

#[test]
fn what_is_left_out_of_a_new_sale_has_a_default() {
    let new: NewSale =
        serde_json::from_str(r#"{"name":"phone","stock":3,"ends_at":"2030-01-01T00:00:00Z"}"#).unwrap();
    assert_eq!((new.currency.as_str(), new.per_user_limit, new.product()), ("USD", 1, "phone"));
    let named = NewSale { product: Some("phone, black".into()), ..new };
    assert_eq!(named.product(), "phone, black");
}

#[test]
fn stored_words_and_numbers_read_back_as_written() {
    let states = [SaleState::Open, SaleState::Rebuilding, SaleState::ClosedOut];
    assert_eq!(states.map(SaleState::as_str), ["open", "rebuilding", "closed_out"]);
    assert_eq!(states.map(|state| SaleState::parse(state.as_str())), states.map(Some));
    assert_eq!((SaleState::parse("shut"), RebuildStep::parse("resting")), (None, None));
    let steps = ["waiting", "resending", "settling", "draining", "filling"];
    assert_eq!(RebuildStep::ALL.map(RebuildStep::as_str), steps);
    assert_eq!(steps.map(RebuildStep::parse), RebuildStep::ALL.map(Some));
    for (mode, stored, epoch) in [(Mode::Queue, 0, 0), (Mode::Queue, 7, 7), (Mode::Direct, Epoch::MAX, 0)] {
        assert_eq!(Mode::from_stored_epoch(stored), (mode, epoch));
    }
    assert_eq!((Mode::Queue.stored_epoch(), Mode::Direct.stored_epoch()), (0, Epoch::MAX));
}

#[test]
fn a_sale_shows_what_has_ended_only_where_something_has() {
    let one = Ended { orders: 1, units: 1, ..Ended::default() };
    assert!(Ended::default().is_none() && !one.is_none());
}

#[test]
fn tickets_have_rules_of_their_own() {
    let fields = |new: NewSale| -> Vec<_> {
        new.check().err().unwrap_or_default().into_iter().map(|error| error.field).collect()
    };
    let room = |opens_before_ms, rate_per_second| Some(RoomTerms { opens_before_ms, rate_per_second });
    let asked = || NewSale { require_ticket: true, ..sale() };
    assert!(fields(asked()).is_empty());
    assert!(fields(NewSale { waiting_room: room(0, 1), proof_of_work: true, ..asked() }).is_empty());
    let without = NewSale {
        tickets_from: Some(crate::now()),
        ticket_ttl_ms: Some(1_000),
        proof_of_work: true,
        waiting_room: room(0, 1),
        ..sale()
    };
    let all = ["tickets_from", "ticket_ttl_ms", "proof_of_work", "waiting_room"];
    assert_eq!(fields(without)[..4], all);
    assert_eq!(fields(NewSale { ticket_ttl_ms: Some(999), ..asked() }), ["ticket_ttl_ms"]);
    assert_eq!(fields(NewSale { ticket_ttl_ms: Some(3_600_001), ..asked() }), ["ticket_ttl_ms"]);
    assert_eq!(fields(NewSale { waiting_room: room(0, 0), ..asked() }), ["waiting_room"]);
    assert_eq!(fields(NewSale { waiting_room: room(604_800_001, 1), ..asked() }), ["waiting_room"]);
    let late = NewSale { tickets_from: Some(sale().ends_at + chrono::Duration::hours(1)), ..asked() };
    assert_eq!(fields(late), ["tickets_from"]);
    let both = NewSale { tickets_from: Some(sale().starts_at), waiting_room: room(0, 1), ..asked() };
    assert_eq!(fields(both), ["tickets_from"]);
}
