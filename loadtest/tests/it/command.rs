//! The program as its users run it, against gateways that are honest and gateways that lie.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use loadtest::{Method, Report, Verdict};

use crate::gateway::{ADMIN, Lie, SECRET, gateway};

/// The program, without the variables of the environment that change what it does.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["SECKILL_TARGET", "SECKILL_ADMIN_TOKEN", "SECKILL_JWT_SECRET", "SECKILL_DATA_DIR"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end, on a thread that may block.
pub(crate) async fn output(args: Vec<String>) -> Output {
    output_in(Path::new("."), args).await
}

/// Runs the program to its end in a folder.
pub(crate) async fn output_in(folder: &Path, args: Vec<String>) -> Output {
    let folder = folder.to_owned();
    let run = move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        program(&args).current_dir(folder).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// `run` against a gateway with the flags given (`{target}` in them is its address), and a report as JSON: the exit code, the report, and what was printed.
pub(crate) async fn run(lie: Lie, flags: &str) -> (i32, Report, String) {
    run_in(tempfile::tempdir().unwrap().path(), lie, flags).await
}

/// [`run`] in a folder.
pub(crate) async fn run_in(folder: &Path, lie: Lie, flags: &str) -> (i32, Report, String) {
    let target = gateway(lie).await;
    let flags = flags.replace("{target}", &target);
    let json = folder.join("report.json");
    let flags = format!(
        "run --target {target} --jwt-secret {SECRET} --drain-stall 1s --json {} {flags}",
        json.display()
    );
    let output = output_in(folder, flags.split_whitespace().map(str::to_owned).collect()).await;
    let printed =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let text = std::fs::read_to_string(&json).unwrap_or_else(|error| panic!("no report: {error}\n{printed}"));
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap(), printed)
}

pub(crate) fn admin() -> String {
    format!("--admin-token {ADMIN}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_gateway_passes_looked_up_in_bulk_and_one_by_one() {
    for (flags, method, created) in
        [(admin(), Method::Bulk, true), ("--sale 1".to_owned(), Method::Each, false)]
    {
        let (code, report, printed) =
            run(Lie::Nothing, &format!("--rate 2000 -z 1s --retry-ratio 0.1 {flags}")).await;
        assert_eq!((code, report.verdict), (0, Verdict::Pass), "{printed}");
        let checked = report.verification.as_ref().unwrap();
        assert_eq!((checked.method, report.sale.created), (method, created), "{printed}");
        assert_eq!((checked.promised, checked.committed, checked.lost), (2_000, 2_000, 0));
        assert_eq!((report.counts.sent, report.counts.replayed), (2_200, 200));
        assert_eq!((checked.end_to_end.count, checked.conserved), (2_000, Some(true)));
        assert!(checked.drain_seconds.is_some() && report.generator.cpu_share.is_some());
        let last = report.series.last().unwrap();
        assert_eq!((last.committed, last.backlog), (Some(2_000), Some(0)), "{:?}", report.series);
        assert_eq!(report.series.iter().map(|second| second.sent).sum::<u64>(), 2_200);
        for shown in ["accepted", "from the intended start", "oversold 0   lost 0", "verdict     pass"] {
            assert!(printed.contains(shown), "{shown:?} is not in\n{printed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_drops_one_order_in_a_thousand_is_found_out() {
    for (flags, method) in [(admin(), Method::Bulk), ("--sale 1".to_owned(), Method::Each)] {
        let (code, report, printed) = run(Lie::Drops, &format!("--rate 3000 -z 1s {flags}")).await;
        let checked = report.verification.as_ref().unwrap();
        assert_eq!((code, report.verdict, checked.lost), (3, Verdict::Violated, 3), "{printed}");
        assert_eq!((checked.method, checked.promised, checked.drain_seconds), (method, 3_000, None));
        assert!(printed.contains("lost: 3 of 3000 promised orders have no final row"), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_sells_to_a_user_twice_is_found_out() {
    for flags in [admin(), "--sale 1".to_owned()] {
        let (code, report, printed) =
            run(Lie::SellsTwice, &format!("--rate 200 -z 1s --copies 3 {flags}")).await;
        let checked = report.verification.as_ref().unwrap();
        assert_eq!((code, checked.duplicates, checked.lost), (3, 200, 0), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_oversells_is_found_out_although_its_audit_is_clean() {
    let flags = format!("--rate 500 -z 1s --stock 300 {}", admin());
    let (code, report, printed) = run(Lie::Oversells, &flags).await;
    let checked = report.verification.as_ref().unwrap();
    assert_eq!(
        (code, checked.oversold, checked.audit_verdict.as_deref()),
        (3, 200, Some("clean")),
        "{printed}"
    );
    let (code, report, printed) = run(Lie::Oversells, "--rate 6000 -z 1s --sale 1").await;
    assert_eq!((code, report.verification.unwrap().oversold), (3, 1_000), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shows_in_the_corrected_latency_and_not_in_the_uncorrected() {
    let (_, report, printed) = run(Lie::Stalls, "--rate 400 -z 4500ms -c 4 --sale 1").await;
    let (corrected, uncorrected) = (report.latency.corrected.all, report.latency.uncorrected.all);
    // Each of three stalls holds four of 1,800 requests in the server, 0.7 % in all. Another 120 are due during each stall.
    assert!(corrected.p99_us >= 200_000, "{printed}");
    assert!(uncorrected.p99_us < corrected.p99_us, "{printed}");
    assert!(uncorrected.max_us >= 200_000, "{printed}");
    assert!(report.generator.saturated && printed.contains("GENERATOR SATURATED"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_outcomes_are_looked_up_until_they_are_known() {
    for flags in [admin(), "--sale 1".to_owned()] {
        let (code, report, printed) = run(Lie::Unsure, &format!("--rate 1000 -z 1s {flags}")).await;
        let checked = report.verification.as_ref().unwrap();
        assert_eq!((code, report.counts.unknown), (0, 100), "{printed}");
        let unknown = checked.unknown;
        assert_eq!(
            (unknown.orders, unknown.committed, unknown.absent, unknown.open),
            (100, 50, 50, 0),
            "{printed}"
        );
        assert_eq!(checked.lost, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_list_the_orders_are_looked_up_one_by_one() {
    let (code, report, printed) = run(Lie::NoList, &format!("-n 500 -c 8 {}", admin())).await;
    let checked = report.verification.as_ref().unwrap();
    assert_eq!((code, checked.method, checked.committed), (0, Method::Each, 500), "{printed}");
    assert!(printed.contains("asking for every order by itself"), "{printed}");
    assert!(printed.contains("closed model"), "a closed run warns that its latency hides stalls:\n{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_threshold_is_printed_and_exits_99() {
    let flags = "--rate 300 -z 1s --sale 1 --threshold accepted>=300 --threshold p50<1us --threshold lost==0";
    let (code, report, printed) = run(Lie::Nothing, flags).await;
    assert_eq!((code, report.verdict), (99, Verdict::ThresholdMissed), "{printed}");
    let kept: Vec<bool> = report.thresholds.iter().map(|threshold| threshold.kept).collect();
    assert_eq!(kept, [true, false, true]);
    assert!(printed.contains("threshold missed: p50<1us, measured"), "{printed}");
    // A broken promise comes before a missed threshold.
    let (code, ..) =
        run(Lie::Oversells, &format!("--rate 300 -z 1s --stock 10 --threshold p50<1us {}", admin())).await;
    assert_eq!(code, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_warm_up_is_left_out_of_latency_and_its_orders_are_verified() {
    let (code, report, printed) = run(Lie::Nothing, "--rate 500 -z 2s --warmup 1s --sale 1").await;
    assert_eq!(
        (code, report.counts.accepted, report.latency.corrected.all.count),
        (0, 1_000, 500),
        "{printed}"
    );
    assert_eq!(report.verification.unwrap().committed, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_not_verified_or_not_answered_does_not_pass() {
    let (code, report, printed) = run(Lie::Nothing, "--rate 100 -z 1s --sale 1 --no-verify").await;
    assert_eq!((code, report.verdict), (0, Verdict::Unverified), "{printed}");
    assert!(printed.contains("the orders were not looked up"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_prints_what_it_has() {
    let (target, folder) = (gateway(Lie::Nothing).await, tempfile::tempdir().unwrap());
    let json = folder.path().join("report.json");
    let flags = format!(
        "run --target {target} --jwt-secret {SECRET} --sale 1 --rate 50 -z 1h --json {}",
        json.display()
    );
    let args: Vec<&str> = flags.split(' ').collect();
    let mut child = program(&args).spawn().unwrap();
    wait_for_line(&mut child, "sent ");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ending = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(120), ending).await.expect("the run ends").unwrap();
    let printed = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(130), "{printed}");
    assert!(
        printed.contains("verdict     interrupted") && printed.contains("from the intended start"),
        "{printed}"
    );
    let report: Report = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert!(report.counts.accepted > 0 && report.counts.sent < report.counts.planned);
}

/// Reads stderr until a line has a text in it, and goes on reading in the background.
fn wait_for_line(child: &mut Child, text: &str) {
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines.by_ref().map_while(Result::ok).any(|line| line.contains(text));
    assert!(found, "no line with {text:?}");
    std::thread::spawn(move || lines.for_each(drop));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_written_and_two_reports_are_compared() {
    let (target, folder) = (gateway(Lie::Nothing).await, tempfile::tempdir().unwrap());
    let file = |name: &str| folder.path().join(name).display().to_string();
    for (json, seed, html) in [("a.json", 1, file("page.html")), ("b.json", 2, "-".to_owned())] {
        let json = file(json);
        let flags = format!(
            "run duplicates --rate 50 -z 1s -q --target {target} --jwt-secret {SECRET} --sale 1 --seed {seed} --json {json} --html {html}"
        );
        let output = output(flags.split(' ').map(str::to_owned).collect()).await;
        let printed = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(output.status.success(), "{printed:?}");
        // The page alone can be redirected into a file; the text is then on standard error.
        let [page, text] = if html == "-" { [true, false] } else { [false, true] };
        assert_eq!(
            (printed[0].contains("<html"), printed[0].contains("verdict")),
            (page, text || page),
            "{printed:?}"
        );
        assert_eq!(printed[1].contains("verdict"), page, "{printed:?}");
    }
    assert!(std::fs::read_to_string(file("page.html")).unwrap().contains("<html"));
    let compared = output(vec!["compare".to_owned(), file("a.json"), file("b.json")]).await;
    let text = String::from_utf8_lossy(&compared.stdout);
    assert!(compared.status.success() && text.contains("B / A"), "{text}");
    let mut rows = text.lines().map(|line| line.trim_matches(['│', ' ']));
    let accepted = rows.find(|row| row.starts_with("accepted ")).unwrap();
    let numbers: Vec<&str> = accepted.split_whitespace().rev().take(3).collect();
    assert_eq!(numbers, ["1.00", "50", "50"], "another seed, other buyers\n{text}");

    let mut old: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file("a.json")).unwrap()).unwrap();
    old["schema_version"] = 99.into();
    std::fs::write(file("old.json"), old.to_string()).unwrap();
    for (wrong, printed) in
        [("old.json", "version 99"), ("page.html", "is not a report"), ("none.json", "cannot read")]
    {
        let failed = output(vec!["compare".to_owned(), file("a.json"), file(wrong)]).await;
        let text = String::from_utf8_lossy(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{text}");
        assert!(text.contains(printed) && text.contains(Path::new(wrong).to_str().unwrap()), "{text}");
    }
}
