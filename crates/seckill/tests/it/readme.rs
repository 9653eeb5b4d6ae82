//! The commands of the README, run as they stand in the text. Only the ports are other ones, the demo is smaller, and `cargo` is a
//! script that starts the program at hand.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use seckill_testkit::eventually;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::process::{SOON, text};

/// What is between "```sh" and "```", in the order of the text.
fn blocks(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The one block that has this in it.
#[track_caller]
fn block(part: &str) -> String {
    let mut found = blocks("README.md").into_iter().filter(|block| block.contains(part));
    let block = found.next().unwrap_or_else(|| panic!("no block of the README has {part:?}"));
    assert!(found.next().is_none(), "two blocks of the README have {part:?}");
    block
}

/// A folder as someone has it who has cloned the repository and built it, with terminals in it.
struct Desk {
    folder: tempfile::TempDir,
    gateway: String,
    bank: String,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let release = folder.path().join("target/release");
        std::fs::create_dir_all(&release).unwrap();
        symlink(env!("CARGO_BIN_EXE_seckill"), release.join("seckill")).unwrap();
        let cargo = folder.path().join("bin/cargo");
        std::fs::create_dir_all(cargo.parent().unwrap()).unwrap();
        let script = "#!/bin/sh\n\
                      [ \"$1 $2\" = 'build --release' ] && exit\n\
                      [ \"$1 $2 $3\" = 'run --release --' ] || { echo \"cargo $*: not known here\" >&2; exit 1; }\n\
                      shift 3\nexec target/release/seckill \"$@\"\n";
        std::fs::write(&cargo, script).unwrap();
        std::fs::set_permissions(&cargo, PermissionsExt::from_mode(0o755)).unwrap();
        // Both at the same time, so that they differ.
        let [gateway, bank] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let port = |listener: TcpListener| listener.local_addr().unwrap().port().to_string();
        Self { folder, gateway: port(gateway), bank: port(bank) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The commands with ports that are free here.
    fn here(&self, commands: &str) -> String {
        commands.replace("8080", &self.gateway).replace("8090", &self.bank)
    }

    /// A terminal in the folder, in which these commands run.
    fn terminal(&self, commands: &str) -> Command {
        let mut shell = Command::new("bash");
        self.set(shell.args(["-c", &self.here(commands)]));
        shell
    }

    fn set(&self, command: &mut Command) {
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SECKILL_"))
        {
            command.env_remove(name);
        }
        let path = format!("{}:{}", self.path().join("bin").display(), std::env::var("PATH").unwrap());
        let port = &self.gateway;
        command.current_dir(self.path()).env("PATH", path).env("NO_COLOR", "1");
        command.envs([("SECKILL_DEMO_PORT", port), ("SECKILL_DEMO_BUYERS", &"600".to_owned())]);
        command.envs([("SECKILL_DEMO_STOCK", "300"), ("SECKILL_DEMO_ARRIVAL", "200ms")]);
        command.env("SECKILL_LISTEN", format!("127.0.0.1:{port}"));
        command.env("SECKILL_BANK_LISTEN", format!("127.0.0.1:{}", self.bank));
        command.env("SECKILL_SERVER", format!("http://127.0.0.1:{port}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    }

    /// Runs commands to their end, and returns what they print to stdout.
    async fn run(&self, commands: &str) -> String {
        let mut terminal = self.terminal(&format!("set -e\n{commands}"));
        let output = tokio::time::timeout(SOON, terminal.stderr(Stdio::piped()).output()).await;
        let output = output.expect("the commands end").unwrap();
        assert!(output.status.success(), "{commands}\n{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn is_ready(&self, port: &str, path: &str) {
        let url = format!("http://127.0.0.1:{port}{path}");
        eventually(SOON, async || match reqwest::get(&url).await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

async fn until(lines: &mut Lines<BufReader<ChildStdout>>, part: &str) {
    let found = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(part) {
                return;
            }
        }
        panic!("it ended without {part:?}")
    };
    tokio::time::timeout(SOON, found).await.unwrap_or_else(|_| panic!("no {part:?}"));
}

/// Ctrl-C.
async fn interrupt(mut child: Child) {
    let pid = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    tokio::time::timeout(SOON, child.wait()).await.expect("it ends").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_of_the_readme_serves_on_for_the_audit_in_a_second_terminal() {
    let desk = Desk::new();
    // A shell that stays might end by Ctrl-C itself.
    let demo = format!("exec {}", block("-- demo").trim());
    let mut first = Command::new("script");
    desk.set(first.args(["-qefc", &demo, "/dev/null"]));
    let mut first = first.stdin(Stdio::piped()).spawn().expect("script, of util-linux, can be run");
    let (mut keys, shown) = (first.stdin.take().unwrap(), first.stdout.take().unwrap());
    let mut shown = BufReader::new(shown).lines();
    until(&mut shown, "Enter starts at once").await;
    keys.write_all(b"\n").await.unwrap();
    until(&mut shown, "every invariant held").await;
    let audit = desk.run(&block("-- audit 1")).await;
    assert!(audit.contains("clean"), "{audit}");
    keys.write_all(b"\x03").await.unwrap();
    let ended = tokio::time::timeout(SOON, first.wait()).await.expect("it ends by Ctrl-C").unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_of_ones_own_goes_as_the_readme_says() {
    let desk = Desk::new();
    let start = block("-- gateway --demo-controls");
    let gateway = desk.terminal(&format!("exec {start}")).spawn().unwrap();
    desk.is_ready(&desk.gateway, "/readyz").await;
    let second = block("sale create --name \"Phone\"");
    let shown = desk.run(&second).await;
    for part in ["Phone", "HTTP/1.1 202 Accepted", "verdict"] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }
    // What the shell of the second terminal has learned holds for what follows.
    let path = second.lines().find(|line| line.contains("export PATH")).expect("the path is set");
    let again = second.lines().find(|line| line.starts_with("curl")).expect("an order is sent");
    assert!(desk.run(&format!("{path}\n{again}")).await.contains("HTTP/1.1 200 OK"));
    let audit = desk.run(&format!("{path}\nseckill audit 1 --wait 30s")).await;
    assert!(audit.contains("clean"), "{audit}");
    let experiment = desk.run(&format!("{path}\n{}", block("lab run"))).await;
    assert!(experiment.contains("as predicted"), "{experiment}");
    interrupt(gateway).await;

    // With a bank, and the gateway again.
    let bank = desk.terminal(&format!("{path}\nexec cargo run --release -- bank")).spawn().unwrap();
    desk.is_ready(&desk.bank, "/v1/totals").await;
    let start = format!("exec {} --bank-url http://127.0.0.1:8090", start.trim());
    let gateway = desk.terminal(&start).spawn().unwrap();
    desk.is_ready(&desk.gateway, "/readyz").await;
    let payment = format!("{path}\n{}\nwait", block("--payment-window"));
    // The subscriber goes on until its terminal is closed.
    let mut third = desk.terminal(&payment).process_group(0).spawn().unwrap();
    let mut shown = BufReader::new(third.stdout.take().unwrap()).lines();
    for event in ["refund.requested", "refund.approved", "refund.transferred", "refund.succeeded"] {
        until(&mut shown, event).await;
    }
    let group = format!("-{}", third.id().unwrap());
    assert!(Command::new("kill").args(["-TERM", "--", &group]).status().await.unwrap().success());
    third.wait().await.unwrap();
    interrupt(gateway).await;
    interrupt(bank).await;
}

#[test]
fn the_chinese_readme_has_the_same_commands() {
    let commands = |file| {
        let all = blocks(file).concat();
        let bare = all.lines().map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned());
        bare.filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>()
    };
    assert_eq!(commands("README.md"), commands("README.zh-CN.md"));
}
