//! Brings a database to this version's schema.

use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError as SqlxError, Migration, MigrationType, Migrator};
use sqlx::mysql::MySqlConnectOptions;

use super::server::{Failure, Server, within};
use crate::MigrateError;

/// Every version of the schema, oldest first: what it is called and its SQL. A file that has been released never changes:
/// databases remember its checksum.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "sales orders rejections",
        include_str!("../../../../migrations/mysql/0001_sales_orders_rejections.sql"),
    ),
    ("identity and rebuild", include_str!("../../../../migrations/mysql/0002_identity_and_rebuild.sql")),
    ("after the order", include_str!("../../../../migrations/mysql/0003_after_the_order.sql")),
    ("money", include_str!("../../../../migrations/mysql/0004_money.sql")),
    ("sale administration", include_str!("../../../../migrations/mysql/0005_sale_administration.sql")),
    ("admission", include_str!("../../../../migrations/mysql/0006_admission.sql")),
];

fn migrator() -> Migrator {
    let migration = |(version, &(description, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations((1..).zip(MIGRATIONS).map(migration).collect())
}

/// The longest that all migrations together may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// The longest wait for another process that migrates.
const LOCK: Duration = Duration::from_secs(60);

pub(crate) async fn migrate(options: MySqlConnectOptions) -> Result<(), MigrateError> {
    let server = Server::new(options, Arc::default());
    let mut connection = server.connect_for_schema().await?;
    // sqlx takes a lock, too, but on MariaDB that one does not hold. Ours ends with the connection.
    let lock = sqlx::query_scalar("SELECT GET_LOCK(LEFT(CONCAT('seckill migrate ', DATABASE()), 64), ?)")
        .bind(LOCK.as_secs())
        .fetch_one(&mut connection);
    let locked: Option<i64> = within(DEADLINE, lock).await.map_err(|failure| server.unavailable(&failure))?;
    if locked != Some(1) {
        return Err(MigrateError::Schema(format!(
            "another process has been at it for {LOCK:?}; try again later"
        )));
    }
    let failure = match tokio::time::timeout(DEADLINE, migrator().run(&mut connection)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(_) => return Err(server.unavailable(&Failure::Late(DEADLINE)).into()),
    };
    let advice = match failure {
        SqlxError::Execute(error) => return Err(server.unavailable(&error.into()).into()),
        SqlxError::ExecuteMigration(error, version) => format!(
            "migration {version} failed: {}; correct the cause, delete row {version} from _sqlx_migrations, and run \
             `seckill migrate` again",
            server.sentence(&error.into())
        ),
        SqlxError::Dirty(version) => format!(
            "migration {version} was interrupted; every migration may be run again: delete row {version} from \
             _sqlx_migrations, and run `seckill migrate` again"
        ),
        SqlxError::VersionMissing(version) => {
            format!("it has migration {version}, which this version does not know: use the newer seckill")
        }
        SqlxError::VersionMismatch(version) => format!(
            "its migration {version} is another than this version's: the database belongs to another program, or the \
             file was edited after it had been applied"
        ),
        other => other.to_string(),
    };
    Err(MigrateError::Schema(advice))
}
