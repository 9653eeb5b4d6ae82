//! The calls that other parts of the program put beside those of the gateway: the bank's webhook, and the page's feed and controls.
//! A gateway has the first with `--bank-url`, and the controls with `--demo-controls`.

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::HttpMethod::{self, Delete, Get, Post, Put};

use super::super::contract::{Call, Contract};
use super::super::problem::{
    BUSY, CROSS_SITE, Kind, MALFORMED, MEDIA_TYPE, MISSING_SCOPE, NEEDS_SERVERS, NO_BANK, NO_LOAD, NO_WORKER,
    NOT_FOUND, OVERLOADED, UNAUTHENTICATED, UNAVAILABLE,
};

const PAYMENTS: &str = "After the order";
const PAGE: &str = "Page and demonstration";

/// What the bank says: it is asked what is true of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document; the bank's own crate reads it")]
struct BankNotice {
    /// `charge.succeeded`, `charge.declined`, `refund.succeeded` or `refund.declined`.
    #[schema(rename = "type")]
    kind: String,
    /// The key of the charge or the refund.
    key: uuid::Uuid,
    /// What the charge was for.
    #[schema(nullable = false)]
    order_id: Option<uuid::Uuid>,
}

pub(super) fn describe(contract: Contract) -> Contract {
    controls(page(bank(contract)))
}

fn bank(contract: Contract) -> Contract {
    let signature = "`v1=` and the HMAC-SHA256 of the time, a full stop and the body, in hexadecimal digits";
    contract.describe(
        Post,
        "/api/v1/bank/news",
        Call::new(PAYMENTS, "The bank says that something became of a payment or a refund")
            .header("Bank-Timestamp", "^[0-9]+$", "Seconds since 1970; the news is believed for five minutes")
            .header("Bank-Signature", "^v1=[0-9a-f]{64}$", signature)
            .body::<BankNotice>()
            .answers_nothing(204, "Taken in")
            .problems(&[&UNAUTHENTICATED, &NOT_FOUND, &UNAVAILABLE]),
    )
}

fn page(contract: Contract) -> Contract {
    contract.describe(
        Get,
        "/api/v1/live",
        Call::new(PAGE, "What all processes are doing: the last five minutes, then four frames a second")
            .answers_text(200, "text/event-stream", "Events `history` and `frame`")
            .problems(&[&OVERLOADED]),
    )
}

/// The controls of demonstrations. Their bodies and answers are the page's, and change with it; docs/dashboard.md describes them.
fn controls(contract: Contract) -> Contract {
    let read = |summary| Call::new(PAGE, summary).answers::<Value>(200, "As the page shows it");
    let change = |summary, status| {
        Call::new(PAGE, summary).answers::<Value>(status, "What is in force now").problems(&[
            &CROSS_SITE,
            &MEDIA_TYPE,
            &MISSING_SCOPE,
            &UNAUTHENTICATED,
            &UNAVAILABLE,
        ])
    };
    let with_body =
        |summary, status, kinds: &[&'static Kind]| change(summary, status).body::<Value>().problems(kinds);
    let fault = |call: Call| call.path::<String>("name", "The fault").problems(&[&BUSY]);
    [
        (
            Get,
            "",
            read("The controls of a demonstration, their ranges, and the settings in force")
                .problems(&[&UNAVAILABLE]),
        ),
        (Put, "/drain-rate", with_body("Set the drain rate of all workers together", 200, &[&BUSY])),
        (Put, "/workers", with_body("Pause or resume all workers", 200, &[&BUSY])),
        (Put, "/faults/{name}", fault(with_body("Cause a fault, which ends by itself", 200, &[&NO_BANK]))),
        (Delete, "/faults/{name}", fault(change("End a fault", 200))),
        (Post, "/crash", with_body("Let one of the workers crash", 200, &[&BUSY, &NO_WORKER])),
        (Post, "/sales", with_body("Open a sale for the page", 201, &[])),
        (Post, "/buyer", with_body("A token of a buyer whom nobody else plays", 201, &[])),
        (Get, "/load", read("The newest load run, in any gateway; `null`: there was none")),
        (Post, "/load", with_body("Start a load run", 202, &[&BUSY])),
        (Delete, "/load", change("Stop the load run", 200).problems(&[&BUSY, &NO_LOAD])),
        (Get, "/runs", read("The last ten load runs of this gateway, each with its curve")),
        (
            Get,
            "/runs/{id}/report",
            Call::new(PAGE, "The report of a load run, as a page in one file")
                .path::<String>("id", "The load run")
                .answers_text(200, "text/html", "The page"),
        ),
        (Get, "/experiments", read("The experiments, and how they ended")),
        (
            Post,
            "/experiments/{name}",
            with_body("Run an experiment", 202, &[&BUSY, &NEEDS_SERVERS])
                .path::<String>("name", "The experiment"),
        ),
    ]
    .into_iter()
    .fold(contract, |contract, (method, path, call): (HttpMethod, &str, Call)| {
        // A gateway without demonstration controls has none of them.
        contract.describe(method, &format!("/api/v1/control{path}"), call.problems(&[&NOT_FOUND, &MALFORMED]))
    })
}
