//! One server process with its own data folder, bound to the life of the test process. What to run is the business of
//! the modules beside this one.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// The folder, in that of the server, that holds all its data.
pub(super) const DATA: &str = "data";

/// The file, in the data folder, that takes the place on a small disk.
const BALLAST: &str = "ballast";

/// The supervisor's note that the data folder is prepared.
const PREPARED: &str = "prepared";

/// Carries out commands on the server, and cleans up when its stdin ends.
const SUPERVISOR: &str = include_str!("supervisor.sh");

/// How to run a server.
#[derive(Default)]
pub struct Plan {
    /// Run once, before the first start; empty where there is nothing to prepare.
    pub(super) prepare: Vec<OsString>,
    /// The server, in the foreground.
    pub(super) command: Vec<OsString>,
    /// Added to the environment of both.
    pub(super) env: Vec<(&'static str, OsString)>,
    /// Where the Erlang port mapper listens, if the server starts one.
    pub(super) epmd_port: Option<u16>,
}

/// A server under its supervisor. Dropping it, or the end of the test process, stops the server and removes its folder.
pub(super) struct Process {
    folder: PathBuf,
    pipes: Arc<Mutex<Pipes>>,
}

/// Both ends that the supervisor talks through; it ends when they are closed.
struct Pipes {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    _supervisor: Child,
}

/// Makes a data folder for a server. It lies in `/tmp` whatever `TMPDIR` says: a server may be a wrapper that enters a
/// container or another root and shares just that, and socket paths have to be short.
pub(super) fn make_folder() -> Result<PathBuf, String> {
    let folder = tempfile::Builder::new()
        .prefix("seckill-testkit-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir_in("/tmp")
        .map_err(|error| format!("cannot make a data folder in /tmp: {error}"))?;
    // From here on the supervisor removes it; it survives the kill of this process.
    Ok(folder.keep())
}

/// Puts a file system in memory, of so many bytes, in place of the data folder. The supervisor takes it away again.
pub(super) fn mount_small_disk(folder: &Path, bytes: u64) -> Result<(), String> {
    let data = folder.join(DATA);
    std::fs::create_dir(&data).map_err(|error| format!("cannot make {}: {error}", data.display()))?;
    let owner = data.metadata().map_err(|error| format!("cannot read {}: {error}", data.display()))?;
    let options = format!("size={bytes},uid={},gid={}", owner.uid(), owner.gid());
    // Who is not root asks sudo, which may not ask back.
    let mut mount = Command::new(if owner.uid() == 0 { "mount" } else { "sudo" });
    if owner.uid() != 0 {
        mount.args(["-n", "mount"]);
    }
    mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&data);
    let why = match mount.output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("this test mounts a small disk, which needs root, or sudo without a password: {why}"))
}

/// Removes the folder of a server that has no supervisor.
pub(super) fn remove_folder(folder: &Path) {
    // A leftover is a nuisance, not a failure; most folders have nothing mounted.
    let data = folder.join(DATA);
    if data.metadata().is_ok_and(|data| data.dev() != folder.metadata().map_or(0, |folder| folder.dev())) {
        let unmount = "umount \"$1\" || sudo -n umount \"$1\"";
        let _ = Command::new("sh").args(["-c", unmount, "sh"]).arg(&data).stderr(Stdio::null()).status();
    }
    let _ = std::fs::remove_dir_all(folder);
}

impl Process {
    /// Starts the supervisor. The server itself is started by [`Self::command`].
    pub(super) fn new(folder: PathBuf, plan: Plan) -> Result<Self, String> {
        let mut supervisor = Command::new("bash")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&folder)
            .arg(plan.epmd_port.unwrap_or(0).to_string())
            .arg(plan.prepare.len().to_string())
            .args(plan.prepare)
            .args(plan.command)
            .envs(plan.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Away from the test's group, so that Ctrl-C does not kill what has to clean up after it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run bash, which looks after the servers: {error}"))?;
        let pipes = supervisor.stdin.take().zip(supervisor.stdout.take());
        let (commands, answers) = pipes.ok_or("the supervisor has no pipes")?;
        let pipes = Pipes { commands, answers: BufReader::new(answers), _supervisor: supervisor };
        Ok(Self { folder, pipes: Arc::new(Mutex::new(pipes)) })
    }

    /// Gives the supervisor a command and waits until it is carried out. Starting is carried out once the process
    /// exists, stopping once it is gone.
    pub(super) async fn command(&self, command: &'static str) -> Result<(), String> {
        match self.ask(command).await? {
            answer if answer == command => Ok(()),
            answer => Err(format!("the supervisor answered {answer:?} to the command {command}")),
        }
    }

    /// How the server has ended; `None` while it runs.
    pub(super) async fn ended(&self) -> Result<Option<String>, String> {
        Ok(Some(self.ask("check").await?).filter(|answer| answer != "running"))
    }

    async fn ask(&self, command: &'static str) -> Result<String, String> {
        let pipes = Arc::clone(&self.pipes);
        let exchange = move || {
            let mut pipes = pipes.lock().unwrap_or_else(PoisonError::into_inner);
            let mut answer = String::new();
            writeln!(pipes.commands, "{command}")?;
            pipes.answers.read_line(&mut answer)?;
            Ok(answer.trim_end().to_owned())
        };
        tokio::task::spawn_blocking(exchange)
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error: std::io::Error| format!("the supervisor does not answer {command}: {error}"))
    }

    /// Holds the server's files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Empties the data folder. The server must not run.
    pub(super) async fn wipe(&self) -> Result<(), String> {
        let (data, prepared) = (self.data(), self.folder.join(PREPARED));
        on_files(move || {
            for removed in [std::fs::remove_dir_all(&data), std::fs::remove_file(prepared)] {
                removed
                    .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
            }
            std::fs::create_dir(&data)
        })
        .await
    }

    /// Copies the data folder. The server must not write meanwhile.
    pub(super) async fn copy(&self) -> Result<PathBuf, String> {
        let (data, parent) = (self.data(), self.folder.clone());
        on_files(move || {
            // Removed with the folder of the server.
            let copy = tempfile::Builder::new().prefix("copy-").tempdir_in(parent)?.keep().join(DATA);
            copy_folder(&data, &copy).map(|()| copy)
        })
        .await
    }

    /// Replaces the data folder by a copy of it. The server must not run.
    pub(super) async fn restore(&self, copy: PathBuf) -> Result<(), String> {
        self.wipe().await?;
        let (data, prepared) = (self.data(), self.folder.join(PREPARED));
        on_files(move || {
            std::fs::remove_dir(&data)?;
            copy_folder(&copy, &data)?;
            std::fs::write(prepared, "")
        })
        .await
    }

    /// Whether there is anything in the data folder, as this process sees it.
    pub(super) async fn uses_disk(&self) -> Result<bool, String> {
        let data = self.data();
        on_files(move || Ok(std::fs::read_dir(data)?.next().is_some())).await
    }

    /// Writes a file into the data folder until `left` bytes are free on its disk.
    pub(super) async fn fill_disk(&self, left: u64) -> Result<(), String> {
        let (data, ballast) = (self.data(), self.data().join(BALLAST));
        on_files(move || {
            let free =
                Command::new("df").args(["--output=avail", "--block-size=1"]).arg(data).output()?.stdout;
            let free = String::from_utf8_lossy(&free);
            let free: u64 = free.split_whitespace().last().and_then(|free| free.parse().ok()).unwrap_or(0);
            let mut file = std::fs::File::create(ballast)?;
            let copied = std::io::copy(&mut std::io::repeat(1).take(free.saturating_sub(left)), &mut file);
            match copied {
                Ok(_) => Ok(()),
                // The server has written meanwhile.
                Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Removes that file.
    pub(super) async fn free_disk(&self) -> Result<(), String> {
        let ballast = self.data().join(BALLAST);
        on_files(move || std::fs::remove_file(ballast)).await
    }

    fn data(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    /// The last lines that the server has written.
    pub(super) fn log_tail(&self) -> String {
        log_tail(&self.folder.join("log"))
    }
}

async fn on_files<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| format!("the server's data folder: {error}"))
}

/// With owners and modes, which servers insist on.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    let status = Command::new("cp").arg("-a").args([from, to]).status()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("cp ended with {status}"))) }
}

fn log_tail(path: &Path) -> String {
    const LINES: usize = 40;
    match std::fs::read(path) {
        Ok(log) => {
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<_> = log.lines().collect();
            lines[lines.len().saturating_sub(LINES)..].join("\n")
        }
        Err(error) => format!("(no log: {error})"),
    }
}
