//! Names the commit in `--version`, where that is known: from the variable SECKILL_COMMIT, or from git. Without both, as in an
//! archive of the source or in a build of an image, the version stands alone.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=SECKILL_COMMIT");
    let given = env::var("SECKILL_COMMIT").ok().map(|commit| commit.trim().to_owned());
    let commit = given.filter(|commit| !commit.is_empty()).or_else(by_git);
    // For the label of a metric, without the day.
    let hash = commit.as_deref().and_then(|commit| commit.split(' ').next()).unwrap_or_default();
    println!("cargo::rustc-env=SECKILL_COMMIT={hash}");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let version = commit.map_or_else(|| version.clone(), |commit| format!("{version} ({commit})"));
    println!("cargo::rustc-env=SECKILL_VERSION={version}");
}

/// The short hash and the day of the commit that this folder is at.
fn by_git() -> Option<String> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    // The source may lie unpacked within the repository of something else.
    let top = PathBuf::from(git(&package, &["rev-parse", "--show-toplevel"])?);
    if !top.join("crates/seckill/build.rs").exists() {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        let path = package.join(git(&package, &["rev-parse", "--git-path", file])?);
        // A file that is not there would have this run again at every build.
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&package, &["log", "-1", "--format=%h %cs"])
}

fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
