//! The commands: a run, and the comparison of two reports. The steps of a run are in the library's `session`.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use loadtest::check::bank::Bank;
use loadtest::check::shop::Shop;
use loadtest::plan::schedule::Plan;
use loadtest::report::schema::{Report, SCHEMA_VERSION};
use loadtest::send::target::Target;
use loadtest::session::{Played, Session, Watched};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{Failure, RunOptions};
use crate::inputs;
use crate::live::{self, View};
use crate::played;

/// `loadtest run`: the report goes to stdout and to files, everything else to stderr.
pub(crate) async fn run(options: RunOptions) -> Result<ExitCode, Failure> {
    let options = inputs::with_secrets(options)?;
    let view = View::of(options.quiet);
    if let Some(folder) = &options.data_dir {
        view.print(&format!("taking the secrets from {}", folder.display()));
    }
    if let Some(played) = Box::pin(played::run(&options)).await {
        return played;
    }
    let (scenario, name) = inputs::scenario(&options)?;
    let plan = scenario.plan()?;
    let mut lifecycle = scenario.lifecycle_plan()?;
    let admin = options.admin_token.as_deref().map(loadtest::check::shop::bearer).transpose()?;
    if [&options.json, &options.html].iter().all(|file| file.as_deref() == Some(Path::new("-"))) {
        return Err(Failure::Usage(
            "--json and --html cannot both go to standard output: give one of them a file".to_owned(),
        ));
    }
    for (file, flag) in [(&options.json, "--json"), (&options.html, "--html")] {
        if let Some(file) = file.as_deref().filter(|file| *file != Path::new("-")) {
            inputs::check_writable(file, flag)?;
        }
    }
    Target::parse(&options.target)?;
    let bank = inputs::bank(&options, lifecycle.as_ref())?;
    if options.scenario.is_none() && name.is_some() {
        view.print("no preset and no load is given: playing `spike`; `loadtest run --help` has the others");
    }
    view.print(&format!("making {} tokens ready", plan.comers()));
    let tokens = inputs::tokens(&options, &plan)?;
    let clients = inputs::connect(&options, &scenario).await?;
    let shop = &mut Shop::new(&clients);
    let sale =
        inputs::sale(&options, &scenario, &plan, lifecycle.as_mut(), &tokens, admin.as_ref(), shop).await?;
    let bank = match bank {
        Some(target) => Some(Bank::open(target).await?),
        None => None,
    };
    let (watched, lasts) = (Watched::default(), plan.lasts());
    view.print(&format!(
        "{} buyers to sale {} ({}) at {}",
        plan.buyers(),
        sale.id,
        sale.stock.map_or("stock not known".to_owned(), |stock| format!("{stock} units")),
        options.target
    ));
    let mut session = Session {
        target: options.target.clone(),
        scenario,
        name,
        plan,
        admin,
        tokens,
        clients,
        sale,
        lifecycle,
        bank,
        verify: !options.no_verify,
        drain_stall: options.drain_stall,
        stop: stop_on_signal()?,
        watched: watched.clone(),
        say: Box::new(move |text| view.print(text)),
    };
    let played = tokio::select! {
        played = session.play_in_detail() => played?,
        () = live::follow(view, &watched, lasts) => unreachable!("the view runs until it is dropped"),
    };
    write(&options, &played.report)?;
    write_lost_orders(&played, &session.plan);
    Ok(ExitCode::from(played.report.verdict.exit_code()))
}

/// Writes the promised orders without a final row to a file in the working directory where some of them are lost, and prints
/// its path. A file that cannot be written does not change the verdict.
fn write_lost_orders(played: &Played, plan: &Plan) {
    let lost = played.report.verification.as_ref().filter(|checked| !checked.cancelled);
    if lost.is_none_or(|checked| checked.lost == 0) {
        return;
    }
    let name = format!("lost-orders-{}.csv", played.report.sale.id);
    let file = std::path::absolute(&name).unwrap_or_else(|_| name.into());
    let mut text = "order_id,user_id,found\n".to_owned();
    for check in &played.unrecorded {
        let _ =
            writeln!(text, "{},{},{}", check.order.order_id, plan.user(check.order.buyer), check.end.word());
    }
    match std::fs::write(&file, text) {
        Ok(()) => eprintln!("the orders without a final row are in {}", file.display()),
        Err(error) => eprintln!("cannot write the orders without a final row to {}: {error}", file.display()),
    }
}

/// Writes the report to standard output and to the files that were asked for. Where the page goes to standard output, the text goes to
/// standard error.
fn write(options: &RunOptions, report: &Report) -> Result<(), Failure> {
    let page_to_stdout = options.html.as_deref() == Some(Path::new("-"));
    let say = |text: &str| {
        if !page_to_stdout {
            return print(text);
        }
        eprintln!("{text}");
        Ok(())
    };
    let failed = |file: &Path, error: std::io::Error| {
        Failure::Fault(format!("cannot write {}: {error}", file.display()))
    };
    let json = || serde_json::to_string_pretty(report).map_err(|error| Failure::Fault(error.to_string()));
    match options.json.as_deref() {
        Some(file) if file == Path::new("-") => print(&json()?)?,
        Some(file) => {
            // Printed first: the numbers must not be lost when the disk is full.
            say(&report.to_string())?;
            std::fs::write(file, json()?).map_err(|error| failed(file, error))?;
        }
        None => say(&report.to_string())?,
    }
    match &options.html {
        Some(_) if page_to_stdout => print(&loadtest::report::html::render(report))?,
        Some(file) => {
            std::fs::write(file, loadtest::report::html::render(report))
                .map_err(|error| failed(file, error))?;
            let whole = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            let told = format!("the report as a page is in {}; open it in a browser", whole.display());
            View::of(options.quiet).print(&told);
        }
        None => {}
    }
    Ok(())
}

/// Returns a token that the first SIGINT or SIGTERM cancels. The second signal ends the program at once.
fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let cannot = |error: std::io::Error| Failure::Fault(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(130);
            }
            eprintln!("stopping: waiting for requests under way; press Ctrl-C again to stop at once");
            cancel.cancel();
        }
    });
    Ok(stop)
}

/// Prints to standard output. A reader that stops reading, such as `head`, is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Fault(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// `loadtest compare`: prints the comparison to standard output.
pub(crate) fn compare(a: &Path, b: &Path) -> Result<ExitCode, Failure> {
    print(&loadtest::report::compare::compare(&read_report(a)?, &read_report(b)?))?;
    Ok(ExitCode::SUCCESS)
}

fn read_report(file: &Path) -> Result<Report, Failure> {
    let named = file.display();
    let hint = "give two files that --json wrote, like compare before.json after.json";
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Fault(format!("cannot read {named}: {error}; {hint}")))?;
    let version = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|json| json["schema_version"].as_u64());
    if version.is_some_and(|version| version != u64::from(SCHEMA_VERSION)) {
        let version = version.unwrap_or_default();
        return Err(Failure::Fault(format!(
            "{named} has version {version} of the report, and this program reads version {SCHEMA_VERSION}; run it with the \
             program that wrote it"
        )));
    }
    serde_json::from_str(&text)
        .map_err(|error| Failure::Fault(format!("{named} is not a report: {error}; {hint}")))
}
