//! A program that was built without the feature `lab` refuses demonstrations with a message:
//! `cargo test -p seckill --no-default-features --test without_lab`.

#![cfg(not(feature = "lab"))]

use std::process::Command;

/// The program, without the variables of the caller's environment that it reads.
fn seckill(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seckill"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SECKILL_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

#[test]
fn demonstrations_are_refused_with_a_sentence() {
    for (args, variable) in [
        (&["demo"][..], None),
        (&["demo", "--once", "--port", "0"], None),
        (&["gateway", "--demo-controls"], None),
        (&["gateway"], Some(("SECKILL_DEMO", "1"))),
        (&["worker"], Some(("SECKILL_DEMO", "1"))),
    ] {
        let output = seckill(args).envs(variable).output().expect("the program can be run");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains("built without demonstrations"), "{args:?}: {stderr}");
    }
}

#[test]
fn the_help_names_no_demonstration() {
    for args in [&["--help"][..], &["gateway", "--help"]] {
        let output = seckill(args).output().expect("the program can be run");
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && help.contains("gateway"), "{help}");
        assert!(!help.contains("demo"), "{help}");
    }
}
