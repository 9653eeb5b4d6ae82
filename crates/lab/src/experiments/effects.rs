//! What a message does in several experiments: its effect is a row, and the record that it was handled is another one.

use sqlx::{Any, Transaction};
use uuid::Uuid;

use crate::experiment::{Findings, Place, Side, Trouble, text};

/// Makes the tables of effects and of handled messages, empty.
pub(super) async fn tables(place: &Place) -> Result<(), Trouble> {
    place.table("lab_inbox", "message CHAR(36) NOT NULL PRIMARY KEY").await?;
    place.table("lab_effects", "message CHAR(36) NOT NULL").await
}

/// The effect of a message, written in a transaction that is not committed yet. With the safeguard the message's id is inserted
/// under a unique key in the same transaction; `None`: it is there already, so there is nothing to commit.
pub(super) async fn write(
    place: &Place,
    side: Side,
    message: Uuid,
) -> Result<Option<Transaction<'static, Any>>, Trouble> {
    let message = message.to_string();
    let mut transaction = place.sql().begin().await?;
    if side == Side::With {
        let insert = sqlx::query("INSERT INTO lab_inbox (message) VALUES (?)").bind(&message);
        if !is_new(insert.execute(&mut *transaction).await)? {
            return Ok(None);
        }
    }
    let insert = sqlx::query("INSERT INTO lab_effects (message) VALUES (?)").bind(&message);
    insert.execute(&mut *transaction).await?;
    Ok(Some(transaction))
}

/// Whether an INSERT has made its row; false: the unique key was there already, and nothing was changed.
pub(super) fn is_new<T>(inserted: Result<T, sqlx::Error>) -> Result<bool, sqlx::Error> {
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Commits what [`write`] has written.
pub(super) async fn commit(effect: Option<Transaction<'static, Any>>) -> Result<(), Trouble> {
    match effect {
        Some(effect) => Ok(effect.commit().await?),
        None => Ok(()),
    }
}

/// The effect, committed.
pub(super) async fn act(place: &Place, side: Side, message: Uuid) -> Result<(), Trouble> {
    commit(write(place, side, message).await?).await
}

/// Each of `messages` messages is to be handled, and to have one effect.
pub(super) async fn findings(place: &Place, messages: usize) -> Result<Findings, Trouble> {
    let handled = place.count("SELECT COUNT(DISTINCT message) FROM lab_effects").await?;
    let effects = place.count("SELECT COUNT(*) FROM lab_effects").await?;
    Ok(Findings::default()
        .exactly(text("messages handled", "处理到的消息"), messages as u64, handled)
        .exactly(text("effects", "业务效果"), messages as u64, effects))
}
