//! A MySQL or MariaDB server: as durable as in production, small, and without what no test looks at.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use sqlx::{Connection, MySqlConnection};

use super::process::{DATA, Plan};
use super::{Kind, program};

/// Understood by both kinds of server; what one of them does not know is `loose`.
const OPTIONS: [&str; 16] = [
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--performance-schema=OFF",
    "--max-connections=500",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-buffer-size=8M",
    "--loose-innodb-redo-log-capacity=64M",
    "--loose-innodb-log-file-size=64M",
    // A connection that a test has left in a transaction must not hold up its clean-up.
    "--lock-wait-timeout=60",
    "--loose-mysqlx=OFF",
    "--loose-auto-generate-certs=OFF",
    "--loose-tls-version=",
    "--loose-skip-ssl",
    "--loose-log-error-verbosity=2",
];

/// Run at every start. The user is named by address, since names are not resolved.
const INIT: &str = "CREATE DATABASE IF NOT EXISTS seckill;\n\
                    CREATE USER IF NOT EXISTS 'seckill'@'127.0.0.1' IDENTIFIED BY 'seckill';\n\
                    GRANT ALL ON *.* TO 'seckill'@'127.0.0.1' WITH GRANT OPTION;\n";

/// A running MySQL or MariaDB server.
pub struct MySql {
    port: u16,
}

impl MySql {
    /// With every right, and no database chosen.
    pub(crate) fn admin_url(&self) -> String {
        format!("mysql://seckill:seckill@127.0.0.1:{}", self.port)
    }
}

impl Kind for MySql {
    const NAME: &'static str = "MySQL";

    fn plan(folder: &Path) -> Result<(Self, Plan), String> {
        let server = program::find(&["mariadbd", "mysqld"])
            .ok_or_else(|| program::missing("mariadbd or mysqld", "mariadb-server"))?;
        let port = program::free_port()?;
        let init = folder.join("init.sql");
        std::fs::write(&init, INIT).map_err(|error| format!("cannot write {}: {error}", init.display()))?;
        let data = option("--datadir=", &folder.join(DATA));
        let user = run_as(folder);
        let prepare = prepare(&server, &data, user)?;
        let mut command: Vec<OsString> = vec![server.into(), "--no-defaults".into()];
        command.extend(OPTIONS.map(OsString::from));
        command.extend([
            data,
            format!("--port={port}").into(),
            option("--socket=", &folder.join("socket")),
            option("--pid-file=", &folder.join("pid")),
            option("--init-file=", &init),
        ]);
        command.extend(user.map(OsString::from));
        Ok((Self { port }, Plan { prepare, command, ..Plan::default() }))
    }

    fn url(&self) -> String {
        format!("{}/seckill", self.admin_url())
    }

    async fn answers(&self) -> Result<(), String> {
        let connection = MySqlConnection::connect(&self.url()).await.map_err(|error| error.to_string())?;
        connection.close().await.map_err(|error| error.to_string())
    }
}

/// The command that makes the system tables: the two have different ones.
fn prepare(server: &Path, data: &OsStr, user: Option<&str>) -> Result<Vec<OsString>, String> {
    let version = Command::new(server)
        .arg("--version")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", server.display()))?;
    if !String::from_utf8_lossy(&version.stdout).contains("MariaDB") {
        let options = ["--no-defaults", "--initialize-insecure", "--loose-auto-generate-certs=OFF"];
        return Ok(join(server, options.into_iter().chain(user), data));
    }
    let install = program::find(&["mariadb-install-db", "mysql_install_db"])
        .ok_or_else(|| program::missing("mariadb-install-db", "mariadb-server"))?;
    let options = [
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        "--skip-name-resolve",
        "--skip-test-db",
    ];
    Ok(join(&install, options.into_iter().chain(user), data))
}

/// Both servers refuse to run as root without this option; for anybody else the option is an error.
fn run_as(folder: &Path) -> Option<&'static str> {
    let root = folder.metadata().is_ok_and(|folder| folder.uid() == 0);
    root.then_some("--user=root")
}

fn join<'a>(program: &Path, options: impl Iterator<Item = &'a str>, last: &OsStr) -> Vec<OsString> {
    std::iter::once(program.into()).chain(options.map(OsString::from)).chain([last.into()]).collect()
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}
