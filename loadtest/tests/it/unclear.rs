//! The verdict where the server leaves something open: `unclear` where nobody can know, `violated` only where the audit or
//! the rows say so.

use loadtest::{Report, Verdict, VerificationReport};

use crate::command::{admin, run, run_in};
use crate::gateway::Lie;

const UNCLEAR: i32 = 4;
const VIOLATED: i32 = 3;

fn checked(report: &Report) -> &VerificationReport {
    report.verification.as_ref().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_gate_leaves_conservation_open_though_every_order_is_recorded() {
    for flags in [admin(), "--sale 1".to_owned()] {
        let (code, report, printed) = run(Lie::GateLost, &format!("--rate 300 -z 1s {flags}")).await;
        assert_eq!((code, report.verdict), (UNCLEAR, Verdict::Unclear), "{printed}");
        let checked = checked(&report);
        assert_eq!((checked.committed, checked.lost, checked.in_flight), (300, 0, 0), "{printed}");
        assert_eq!((checked.conserved, checked.audit_verdict.as_deref()), (None, Some("gate_missing")));
        assert!(printed.contains("verdict     unclear") && printed.contains("has no data"), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_without_a_row_are_not_called_lost_when_the_gate_is_lost() {
    let (code, report, printed) = run(Lie::GateLostAndDrops, &format!("--rate 300 -z 1s {}", admin())).await;
    assert_eq!((code, report.verdict), (UNCLEAR, Verdict::Unclear), "{printed}");
    let checked = checked(&report);
    assert_eq!((checked.lost, checked.in_flight, checked.unclear), (0, 0, 30), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_wait_for_paused_workers_are_in_flight_and_not_lost() {
    for flags in [admin(), "--sale 1".to_owned()] {
        let (code, report, printed) = run(Lie::Paused, &format!("--rate 300 -z 1s {flags}")).await;
        assert_eq!((code, report.verdict), (UNCLEAR, Verdict::Unclear), "{printed}");
        let checked = checked(&report);
        assert_eq!((checked.promised, checked.lost, checked.in_flight), (300, 0, 300), "{printed}");
        assert_eq!(checked.drain_seconds, None);
        assert!(printed.contains("still in flight: 300 of 300 promised orders"), "{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_arrive_after_the_drain_has_stalled_are_found() {
    for flags in [admin(), "--sale 1".to_owned()] {
        let (code, report, printed) = run(Lie::Late, &format!("--rate 300 -z 500ms {flags}")).await;
        assert_eq!((code, report.verdict), (0, Verdict::Pass), "{printed}");
        let checked = checked(&report);
        assert_eq!((checked.committed, checked.lost, checked.in_flight), (150, 0, 0), "{printed}");
        assert_eq!(checked.end_to_end.count, 150);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_a_sale_that_is_rebuilt_are_in_flight() {
    let (code, report, printed) = run(Lie::Rebuilding, &format!("--rate 300 -z 1s {}", admin())).await;
    assert_eq!((code, report.verdict), (UNCLEAR, Verdict::Unclear), "{printed}");
    let checked = checked(&report);
    assert_eq!((checked.lost, checked.in_flight, checked.rebuilding), (0, 300, true), "{printed}");
    assert!(printed.contains("the sale's gate is being rebuilt"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_the_audit_calls_lost_are_lost_and_their_ids_are_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let flags = format!("--rate 300 -z 1s {}", admin());
    let (code, report, printed) = run_in(folder.path(), Lie::AuditFindsLost, &flags).await;
    assert_eq!((code, report.verdict), (VIOLATED, Verdict::Violated), "{printed}");
    assert_eq!((checked(&report).lost, checked(&report).in_flight), (30, 0), "{printed}");
    let file = folder.path().join("lost-orders-1.csv");
    let text = std::fs::read_to_string(&file).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!((rows[0], rows.len()), ("order_id,user_id,found", 31), "{text}");
    for row in &rows[1..] {
        let fields: Vec<&str> = row.split(',').collect();
        assert!(fields[0].parse::<uuid::Uuid>().is_ok() && fields[1].parse::<u64>().is_ok(), "{row}");
        assert_eq!(fields[2], "queued", "{row}");
    }
    assert!(printed.contains(&*file.canonicalize().unwrap().to_string_lossy()), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_orders_without_a_row_than_the_audit_has_in_flight_are_lost() {
    let (code, report, printed) = run(Lie::Miscounts, &format!("--rate 300 -z 1s {}", admin())).await;
    assert_eq!((code, report.verdict), (VIOLATED, Verdict::Violated), "{printed}");
    assert_eq!((checked(&report).lost, checked(&report).in_flight), (15, 15), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_without_an_audit_is_unclear() {
    let (code, report, printed) = run(Lie::NoAudit, &format!("--rate 300 -z 1s {}", admin())).await;
    assert_eq!((code, report.verdict), (UNCLEAR, Verdict::Unclear), "{printed}");
    assert_eq!((checked(&report).committed, checked(&report).conserved), (300, None), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_sale_passes_without_a_gate() {
    let (code, report, printed) = run(Lie::Direct, &format!("--rate 300 -z 1s {}", admin())).await;
    assert_eq!((code, report.verdict), (0, Verdict::Pass), "{printed}");
    assert_eq!((checked(&report).committed, checked(&report).conserved), (300, None), "{printed}");
}
