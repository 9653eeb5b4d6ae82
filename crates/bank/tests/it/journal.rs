//! What has been answered is kept, whenever the process dies.

use std::fs::{self, OpenOptions};
use std::io::Write;

use futures_util::future::join_all;
use seckill_core::{Bank, BankAnswer};

use crate::setup::{TestBank, charge, give_back};

const FILE: &str = "bank.jsonl";

#[tokio::test]
async fn what_was_answered_is_in_the_file_before_the_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let first = TestBank::in_folder(folder.path()).await;
    let bank = first.client();
    let charges: Vec<_> = (0..40).map(|_| charge(100, "tok_1")).collect();
    let answers = join_all(charges.iter().map(|charge| bank.charge(charge))).await;
    assert!(answers.iter().all(|answer| *answer.as_ref().unwrap() == BankAnswer::Succeeded));
    let declined = charge(100, "tok_declined");
    let said = bank.charge(&declined).await.unwrap();
    let refund = give_back(&charges[0], 60);
    bank.give_back(&refund).await.unwrap();
    let csv = first.text("/v1/charges.csv").await;
    // What a `kill -9` at this moment would leave.
    let copy = tempfile::tempdir().unwrap();
    fs::copy(folder.path().join(FILE), copy.path().join(FILE)).unwrap();

    let second = TestBank::in_folder(copy.path()).await;
    assert_eq!(second.totals().await, [40, 4_000, 1, 60]);
    assert_eq!(second.text("/v1/charges.csv").await, csv);
    let bank = second.client();
    assert_eq!(bank.charge_state(declined.key).await.unwrap(), Some(said));
    assert_eq!(bank.give_back_state(refund.key).await.unwrap(), Some(BankAnswer::Succeeded));
    // A key that was used before the restart has no second effect after it, and its charge has 40 cents left.
    assert_eq!(bank.charge(&charges[0]).await.unwrap(), BankAnswer::Succeeded);
    let too_much = bank.give_back(&give_back(&charges[0], 41)).await.unwrap();
    assert!(matches!(too_much, BankAnswer::Declined { .. }), "{too_much:?}");
    assert_eq!(second.totals().await, [40, 4_000, 1, 60]);
}

#[tokio::test]
async fn a_torn_last_line_is_ignored_and_does_not_spoil_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let kept = charge(100, "tok_1");
    let first = TestBank::in_folder(folder.path()).await;
    first.client().charge(&kept).await.unwrap();
    first.stop().await.unwrap();
    let path = folder.path().join(FILE);
    let line = fs::read(&path).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&line[..line.len() / 2]).unwrap();
    drop(file);

    let second = TestBank::in_folder(folder.path()).await;
    assert_eq!(second.totals().await, [1, 100, 0, 0]);
    second.client().charge(&charge(50, "tok_1")).await.unwrap();
    second.stop().await.unwrap();
    let third = TestBank::in_folder(folder.path()).await;
    assert_eq!(third.totals().await, [2, 150, 0, 0]);
    assert_eq!(third.client().charge_state(kept.key).await.unwrap(), Some(BankAnswer::Succeeded));
}

#[tokio::test]
async fn a_spoiled_line_in_the_middle_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(FILE), "{\"type\":\"charge\"}\n").unwrap();
    let ended = TestBank::in_folder(folder.path()).await.stop().await;
    assert!(ended.unwrap_err().to_string().contains("line 1 cannot be read"));
}

#[tokio::test]
async fn a_folder_has_one_bank() {
    let folder = tempfile::tempdir().unwrap();
    let first = TestBank::in_folder(folder.path()).await;
    first.totals().await;
    let ended = TestBank::in_folder(folder.path()).await.stop().await;
    assert!(ended.unwrap_err().to_string().contains("another bank uses this folder"));
    first.stop().await.unwrap();
}
