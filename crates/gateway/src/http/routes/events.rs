//! The calls of the outbox and of those who subscribe to its events.

use seckill_api::{OutboxEventView, OutboxList, Redriven, SubscriberView};
use seckill_core::OutboxState;

use super::super::contract::{Call, Contract};
use super::super::outbox;
use super::super::problem::UNAVAILABLE;

const EVENTS: &str = "Events";

pub(super) fn describe(contract: Contract) -> Contract {
    let of_event =
        |summary| Call::new(EVENTS, summary).uuid("id", "The event").admin().problems(&[&UNAVAILABLE]);
    let of_subscriber = |summary| {
        Call::new(EVENTS, summary)
            .path::<String>("name", "The subscriber's name")
            .admin()
            .problems(&[&UNAVAILABLE])
    };
    contract
        .get(
            "/api/v1/outbox",
            outbox::list,
            Call::new(EVENTS, "Events of the outbox, oldest first, 1,000 at the most")
                .admin()
                .query::<OutboxState>("state", "Which events; by default those that are `parked`")
                .answers::<OutboxList>(200, "The events")
                .problems(&[&UNAVAILABLE]),
        )
        .get(
            "/api/v1/outbox/{id}",
            outbox::show,
            of_event("One event of the outbox").answers::<OutboxEventView>(200, "The event"),
        )
        .delete(
            "/api/v1/outbox/{id}",
            outbox::discard,
            of_event("Remove a parked event for good").answers_nothing(204, "Done"),
        )
        .post(
            "/api/v1/outbox/{id}/redrive",
            outbox::redrive,
            of_event("Publish an event once more, at once").answers_nothing(204, "Done"),
        )
        .get(
            "/api/v1/subscribers/{name}",
            outbox::subscriber,
            of_subscriber("What waits for a subscriber").answers::<SubscriberView>(200, "The subscriber"),
        )
        .delete(
            "/api/v1/subscribers/{name}",
            outbox::unsubscribe,
            of_subscriber("End a subscription and throw away what waits for it").answers_nothing(204, "Done"),
        )
        .post(
            "/api/v1/subscribers/{name}/redrive",
            outbox::redrive_parked,
            of_subscriber("Give a subscriber all events again that it had parked")
                .answers::<Redriven>(200, "How many"),
        )
}
