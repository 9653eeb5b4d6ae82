//! A run in a folder that has a gateway's secrets, and what the program says that it does.

use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::command::{output, output_in, program};
use crate::gateway::{ADMIN, Lie, SECRET, gateway};

fn words(flags: &str) -> Vec<String> {
    flags.split_whitespace().map(str::to_owned).collect()
}

/// A folder as it is after `seckill gateway --demo-controls`.
fn folder_with(data_dir: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join(data_dir);
    std::fs::create_dir(&data_dir).unwrap();
    std::fs::write(data_dir.join("jwt.secret"), format!("{SECRET}\n")).unwrap();
    std::fs::write(data_dir.join("admin.token"), format!("{ADMIN}\n")).unwrap();
    folder
}

async fn outcome(folder: &Path, flags: &str) -> (i32, String) {
    let output = output_in(folder, words(flags)).await;
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    (output.status.code().unwrap(), err + &out)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secrets_of_a_gateway_on_this_machine_are_found_and_the_page_s_path_is_printed() {
    let target = gateway(Lie::Nothing).await;
    let folder = folder_with("seckill-data");
    // A host and a port are enough.
    let address = target.trim_start_matches("http://");
    let (code, printed) =
        outcome(folder.path(), &format!("run -c 2 -n 20 --target {address} --html report.html")).await;
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("taking the secrets from seckill-data"), "{printed}");
    let page = folder.path().canonicalize().unwrap().join("report.html");
    assert!(page.exists() && printed.contains(&page.display().to_string()), "{printed}");
    assert!(!printed.contains(SECRET) && !printed.contains(ADMIN), "{printed}");

    let elsewhere = folder_with("data");
    let run = format!("run -c 2 -n 20 --target {target}");
    let (code, printed) = outcome(elsewhere.path(), &run).await;
    assert!(code == 2 && printed.contains("--data-dir"), "{printed}");
    let (code, printed) = outcome(elsewhere.path(), &format!("{run} --data-dir data")).await;
    assert_eq!(code, 0, "{printed}");
    // What a flag says counts more.
    let flags = format!("{run} --sale 1 --data-dir data --admin-token wrong");
    let (code, printed) = outcome(elsewhere.path(), &flags).await;
    assert!(code == 1 && printed.contains("does not take the admin token"), "{printed}");
}

#[tokio::test]
async fn the_secrets_do_not_go_to_another_machine_by_themselves() {
    let folder = folder_with("seckill-data");
    for target in ["http://192.0.2.1:8080", "http://localhost.example.com:8080", "192.0.2.1:8080"] {
        let (code, printed) = outcome(folder.path(), &format!("run -c 2 -n 20 --target {target}")).await;
        assert!(code == 2 && printed.contains("nothing signs the buyers' tokens"), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_a_preset_says_which_one_it_plays() {
    let target = gateway(Lie::Nothing).await;
    let mut run =
        program(&["run", "--target", &target, "--sale", "1", "--jwt-secret", SECRET]).spawn().unwrap();
    let lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let said = tokio::task::spawn_blocking(move || {
        lines.map_while(Result::ok).any(|line| line.contains("playing `spike`"))
    });
    assert!(said.await.unwrap());
    run.kill().unwrap();
    run.wait().unwrap();
}

#[tokio::test]
async fn the_program_describes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let man = format!("man --out {}", folder.path().display());
    for (args, part) in [
        ("--version", env!("CARGO_PKG_VERSION")),
        ("completions bash", "--max-connections"),
        (man.as_str(), ""),
        ("run --help", "[default: spike"),
    ] {
        let output = output(words(args)).await;
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains(part), "{args}: {shown}");
    }
    assert!(folder.path().join("loadtest-run.1").exists());
    let bots =
        output(words(&format!("run bots --html x.html --jwt-secret {SECRET} --admin-token {ADMIN}"))).await;
    let told = String::from_utf8_lossy(&bots.stderr);
    assert!(bots.status.code() == Some(2) && told.contains("has no page"), "{told}");
}
