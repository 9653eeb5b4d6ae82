//! What a person sees in a terminal: the demo's chart, the first lines of a gateway, the help, completions and manual.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use console::strip_ansi_codes;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::process::{Role, SOON, run, seckill, text};

/// A program in a terminal of its own, which `script` of util-linux makes.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    bytes: Vec<u8>,
    /// All of them as text, without colours and moves of the cursor.
    shown: String,
}

impl Terminal {
    fn start(columns: u16, rows: u16, arguments: &str) -> Self {
        Self::start_in(Path::new("."), columns, rows, arguments)
    }

    fn start_in(folder: &Path, columns: u16, rows: u16, arguments: &str) -> Self {
        let command =
            format!("stty cols {columns} rows {rows}; exec {} {arguments}", env!("CARGO_BIN_EXE_seckill"));
        let mut terminal = Command::new("script");
        terminal.args(["-qefc", &command, "/dev/null"]).current_dir(folder);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SECKILL_"))
        {
            terminal.env_remove(name);
        }
        let mut child = terminal
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("script, of util-linux, can be run");
        let (keys, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, keys, screen, bytes: Vec::new(), shown: String::new() }
    }

    /// Reads until this has been shown.
    async fn until(&mut self, part: &str) {
        let read = async {
            while !self.shown.contains(part) {
                let read = self.screen.read_buf(&mut self.bytes).await.unwrap();
                self.shown = plain(&self.bytes);
                assert!(read > 0, "it ended without {part:?}:\n{}", self.shown);
            }
        };
        let found = tokio::time::timeout(SOON, read).await;
        found.unwrap_or_else(|_| panic!("no {part:?} in time"));
    }

    async fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Reads the rest; returns the exit code.
    async fn end(&mut self) -> Option<i32> {
        let read = async {
            self.screen.read_to_end(&mut self.bytes).await.unwrap();
            self.child.wait().await.unwrap().code()
        };
        let code = tokio::time::timeout(SOON, read).await.expect("it ends");
        self.shown = plain(&self.bytes);
        code
    }

    /// No text goes on in the next line of the terminal, also of what was drawn over later.
    #[track_caller]
    fn assert_fits(&self, columns: usize) {
        for line in self.shown.split(['\r', '\n']) {
            // What changes in place is filled up with spaces to the end of each line, instead of a new line.
            let characters: Vec<char> = line.chars().collect();
            let mut rows: Vec<_> = characters.chunks(columns).collect();
            rows.pop();
            assert!(rows.iter().all(|row| row.ends_with(&[' '])), "{line:?} goes on after {columns} columns");
        }
    }
}

fn plain(bytes: &[u8]) -> String {
    // The terminal echoes Ctrl-C itself, also in the middle of a character that the program is writing.
    let mut written = bytes.to_vec();
    while let Some(echo) = written.windows(2).position(|pair| pair == b"^C") {
        written.drain(echo..echo + 2);
    }
    strip_ansi_codes(&String::from_utf8_lossy(&written)).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_fits_its_terminal_and_draws_while_it_runs() {
    for (columns, rows) in [(80, 40), (40, 24)] {
        let mut terminal = Terminal::start(
            columns,
            rows,
            "demo --once --port 0 --buyers 600 --stock 300 --drain-rate 300 --arrival 200ms",
        );
        assert_eq!(terminal.end().await, Some(0), "{}", terminal.shown);
        let (live, ended) = terminal.shown.rsplit_once(" requests in").expect("the verdict is shown");
        assert!(live.matches("arrivals").count() > 2, "it was not drawn live:\n{}", terminal.shown);
        assert_eq!(live.contains("░ arrivals"), rows < 30, "{live}");
        assert!(ended.contains("every invariant held"), "{ended}");
        terminal.assert_fits(columns.into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_shows_what_was_seen_and_the_audit() {
    let load = "--buyers 3000 --stock 3000 --drain-rate 50 --arrival 500ms";
    let mut terminal = Terminal::start(80, 40, &format!("demo --once --port 0 {load}"));
    terminal.until("committed 1").await;
    terminal.type_in("\x03").await;
    assert_eq!(terminal.end().await, Some(130), "{}", terminal.shown);
    for part in ["requests in", "latency", "Ended early", "orders committed", "in flight", "oversold"] {
        assert!(terminal.shown.contains(part), "{part:?} is missing in\n{}", terminal.shown);
    }
    terminal.assert_fits(80);
    // With --json there is one object, and nothing else on stdout.
    let mut demo = seckill();
    demo.args(["demo", "--json", "--port", "0"]).args(load.split(' '));
    let mut demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = demo.stderr.take().unwrap();
    let mut told = String::new();
    let mut bytes = [0; 4096];
    while !told.contains("committed 1") {
        let read = tokio::time::timeout(SOON, log.read(&mut bytes)).await.expect("it commits").unwrap();
        told.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    let pid = demo.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let output = tokio::time::timeout(SOON, demo.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((&seen["interrupted"], &seen["audit"]["oversold"]), (&true.into(), &0.into()), "{seen}");
    assert!(seen["accepted"].as_u64() > Some(0), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_opens_with_five_lines_and_its_next_command_works_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Terminal::start_in(folder.path(), 100, 30, "gateway --listen 0 --demo-controls");
    gateway.until("demonstration controls are on").await;
    let shown = gateway.shown.replace('\r', "");
    let lines: Vec<_> = shown.lines().collect();
    let first = lines.iter().position(|line| line.starts_with("  Page ")).expect("the page");
    let names = ["Page", "Data", "Secrets", "Drain rate", "Next"];
    let block = &lines[first..first + names.len()];
    for (line, name) in block.iter().zip(names) {
        assert!(line.trim_start().starts_with(name), "{block:#?}");
    }
    let data = folder.path().canonicalize().unwrap().join("seckill-data");
    assert!(block[1].ends_with(&data.display().to_string()), "{block:#?}");
    assert!(block[2].contains("admin.token") && block[3].contains("2000 orders/s"), "{block:#?}");
    for file in ["jwt.secret", "admin.token"] {
        let secret = std::fs::read_to_string(data.join(file)).unwrap();
        assert!(!gateway.shown.contains(secret.trim()), "a secret is shown");
    }
    assert!(!gateway.shown.contains("ERROR"), "{}", gateway.shown);
    // In a second terminal, in the same folder.
    let next = block[4].trim_start().strip_prefix("Next").unwrap().trim();
    let opened = Command::new("sh").args(["-c", next]).current_dir(folder.path()).output().await.unwrap();
    assert!(opened.status.success() && text(&opened).contains("Phone"), "{next}\n{}", text(&opened));
    let server =
        next.split(' ').find(|word| word.starts_with("http://")).expect("the port is not the usual one");
    for columns in [40, 80] {
        let mut list = Terminal::start(columns, 24, &format!("sale list --server {server}"));
        assert_eq!(list.end().await, Some(0), "{}", list.shown);
        assert!(list.shown.contains("Phone"), "{}", list.shown);
        list.assert_fits(columns.into());
    }
    gateway.type_in("\x03").await;
    assert_eq!(gateway.end().await, Some(0), "{}", gateway.shown);
}

#[tokio::test]
async fn the_help_has_groups_and_names_only_what_a_command_uses() {
    let help = async |args: &[&str]| {
        let output = run(&[args, &["--help"]].concat()).await;
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&[]).await;
    for part in ["Run it:", "Sell:", "Operate it:", "  gateway ", "  audit ", "  completions "] {
        assert!(all.contains(part), "{part:?} is missing in\n{all}");
    }
    let gateway = help(&["gateway"]).await;
    for heading in ["Back end:", "Buyers and admins:", "Doors and limits:", "Worker:", "Log and traces:"] {
        assert!(gateway.contains(heading), "{heading:?} is missing in\n{gateway}");
    }
    for (args, unused) in [
        (&["sale", "list"][..], &["--log-json", "--otlp", "--jwt-secret", "--admin-token", "--data-dir"][..]),
        (&["sale", "create"], &["--jwt-secret", "--redis-url"]),
        (&["subscribe"], &["--redis-url", "--redis-pool-size", "--gate-durable", "--queue"]),
        (&["migrate"], &["--redis-url", "--amqp-url"]),
        (&["worker"], &["--data-dir", "--jwt-secret"]),
        (&["token"], &["--admin-token", "--server"]),
    ] {
        let help = help(args).await;
        for flag in unused {
            assert!(!help.contains(flag), "{args:?} does not use {flag}:\n{help}");
        }
    }
    let output = run(&["--version"]).await;
    let version = String::from_utf8(output.stdout).unwrap();
    assert!(version.starts_with(&format!("seckill {}", env!("CARGO_PKG_VERSION"))), "{version}");
}

#[tokio::test]
async fn completions_and_manual_pages_are_made_for_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]).await;
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && script.contains("drain-rate"), "{shell}: {}", text(&output));
    }
    let script = run(&["completions", "bash"]).await.stdout;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seckill.bash");
    std::fs::write(&file, script).unwrap();
    let checked = Command::new("bash").arg("-n").arg(&file).output().await.unwrap();
    assert!(checked.status.success(), "{}", text(&checked));
    let output = run(&["man", "--out", folder.path().to_str().unwrap()]).await;
    assert!(output.status.success(), "{}", text(&output));
    for page in ["seckill.1", "seckill-gateway.1", "seckill-sale-create.1"] {
        assert!(folder.path().join(page).exists(), "{page}: {}", text(&output));
    }
}

#[tokio::test]
async fn a_port_alone_is_listened_on_for_this_machine_and_host_and_port_are_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let gateway = Role::start("gateway", &["--data-dir", data_dir, "--listen", "0"], &[]).await;
    assert!(gateway.address.ip().is_loopback(), "{}", gateway.address);
    let output = run(&["sale", "list", "--server", &gateway.address.to_string()]).await;
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test]
async fn the_command_of_the_page_runs_as_it_is_pasted() {
    let folder = tempfile::tempdir().unwrap();
    // A load generator that prints what it was given, where a shell finds it.
    let program = folder.path().join("loadtest");
    std::fs::write(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let data_dir = folder.path().join("it's my $data");
    let none = [("SECKILL_JWT_SECRET", ""), ("SECKILL_ADMIN_TOKEN", ""), ("PATH", path.as_str())];
    let flags = ["--demo-controls", "--data-dir", data_dir.to_str().unwrap()];
    let gateway = Role::start("gateway", &flags, &none).await;
    let load = serde_json::json!({ "preset": "spike", "peak_rate": 100, "buyers": 20 });
    let started = reqwest::Client::new().post(format!("{}/api/v1/control/load", gateway.url()));
    let started: Value = started.json(&load).send().await.unwrap().json().await.unwrap();
    let command = started["command"].as_str().unwrap_or_else(|| panic!("{started}"));
    let pasted = Command::new("sh").args(["-c", command]).env("PATH", &path).output().await.unwrap();
    let given = String::from_utf8_lossy(&pasted.stdout);
    let given: Vec<_> = given.lines().collect();
    let start = ["run", "spike", "--target", &gateway.url()];
    assert_eq!(given[..4], start, "{command}: {}", text(&pasted));
    let folder = given.iter().position(|word| *word == "--data-dir").map(|at| given[at + 1]);
    assert_eq!(folder, data_dir.to_str(), "{command}");
    assert!(data_dir.join("jwt.secret").exists() && data_dir.join("admin.token").exists());
}
