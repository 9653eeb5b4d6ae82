//! Scenario files, and the plans that files and flags make.

use std::time::Duration;

use loadtest::{Arrivals, Error, Scenario, Stages};

fn flags() -> Scenario {
    Scenario::default()
}

fn stages(scenario: &Scenario) -> Stages {
    match scenario.plan().unwrap().arrivals {
        Arrivals::Stages(stages) => stages,
        other => panic!("{other:?} are no stages"),
    }
}

#[test]
fn every_file_is_the_preset_of_its_name_and_every_preset_has_its_file() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let read = Scenario::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(Some(&read), Scenario::preset(&name).as_ref(), "{name}");
        let plan = read.plan().unwrap();
        assert_eq!(plan.schedule().unwrap().len() as u64, plan.total().unwrap(), "{name}");
        names.push(name);
    }
    names.sort();
    let mut presets: Vec<_> = Scenario::presets().collect();
    presets.sort_unstable();
    assert_eq!(names, presets);
}

#[test]
fn the_presets_have_the_loads_of_their_names() {
    let plan = |name| Scenario::preset(name).unwrap().plan().unwrap();
    assert_eq!((plan("duplicates").copies, plan("duplicates").total()), (3, Some(30_000)));
    assert_eq!(plan("clickers").total(), Some(5_000 + 250 * 49));
    assert_eq!(stages(&Scenario::preset("soak").unwrap()), Stages::constant(300.0, Duration::from_secs(600)));
    let spike = stages(&Scenario::preset("spike").unwrap());
    assert_eq!((spike.peak(), spike.start_rate), (8_000.0, 0.0));
    let step = stages(&Scenario::preset("step").unwrap());
    assert_eq!(step.buyers(), 5 * (500 + 1_000 + 2_000 + 4_000 + 8_000));
    assert_eq!(stages(&Scenario::preset("ramp").unwrap()).buyers(), 75_000);
}

#[test]
fn a_file_has_every_field_and_no_other() {
    let scenario = Scenario::parse(
        r#"
        stages = "1s:10,2s:20"
        requests = 15
        connections = 4
        max_connections = 9
        warmup = "500ms"
        seed = 3
        first_user = 7
        retry_ratio = 0.5
        copies = 2
        bots = 0.1
        bot_requests = 5
        quantity = 2
        stock = 11
        timeout = "1.5s"
        thresholds = ["p99<200ms", "lost==0"]
        "#,
    )
    .unwrap();
    assert_eq!((scenario.connections(), scenario.max_connections(), scenario.thresholds.len()), (4, 9, 2));
    let plan = scenario.plan().unwrap();
    assert_eq!((plan.first_user, plan.copies, plan.bot_requests, plan.requests), (7, 2, 5, Some(15)));
    for bad in
        ["rte = 5", "rate = \"fast\"", "stages = \"5s\"", "thresholds = [\"p99\"]", "duration = 5", "rate ="]
    {
        let error = Scenario::parse(bad).unwrap_err().to_string();
        assert!(
            error.contains("the scenario cannot be read") && error.contains("rate = 5000"),
            "{bad}: {error}"
        );
    }
}

#[test]
fn flags_override_the_file_and_a_rate_scales_its_shape() {
    let spike = || Scenario::preset("spike").unwrap();
    let scaled = Scenario { rate: Some(800.0), seed: Some(2), ..flags() }.over(spike());
    assert_eq!(stages(&scaled).peak(), 800.0);
    assert_eq!(stages(&scaled).duration(), stages(&spike()).duration());
    assert_eq!((scaled.seed, scaled.stock), (Some(2), Some(10_000)));
    let other = Scenario { stages: Some(Stages::parse("1s:5").unwrap()), ..flags() }.over(spike());
    assert_eq!(stages(&other).to_string(), "1s:5");
    let shorter = Scenario { duration: Some(Duration::from_secs(20)), ..flags() };
    assert_eq!(stages(&shorter.over(Scenario::preset("soak").unwrap())).duration(), Duration::from_secs(20));
}

#[test]
fn a_number_or_a_time_ends_a_constant_rate() {
    let at = |requests, seconds: Option<u64>| {
        let duration = seconds.map(Duration::from_secs);
        stages(&Scenario { rate: Some(100.0), requests, duration, ..flags() }).duration().as_secs()
    };
    assert_eq!(
        [at(None, None), at(Some(500), None), at(None, Some(7)), at(Some(500), Some(7))],
        [10, 5, 7, 7]
    );
}

#[test]
fn connections_without_a_rate_are_the_closed_model() {
    let closed = Scenario { connections: Some(8), requests: Some(100), ..flags() };
    let arrivals = closed.plan().unwrap().arrivals;
    assert_eq!(arrivals, Arrivals::Closed { buyers: 100, lasts: None });
    let timed = Scenario { connections: Some(8), users: Some(5), ..flags() };
    let lasts = Some(Duration::from_secs(10));
    assert_eq!(timed.plan().unwrap().arrivals, Arrivals::Closed { buyers: 5, lasts });
}

#[test]
fn another_seed_means_other_buyers() {
    let first = |seed| Scenario { rate: Some(10.0), seed: Some(seed), ..flags() }.plan().unwrap().first_user;
    assert_eq!((first(1), first(2)), (1, 10_000_001));
    assert!(first(u64::MAX) < i64::MAX as u64);
}

#[test]
fn contradicting_fields_are_refused_with_an_example() {
    let rate = || Scenario { rate: Some(10.0), ..flags() };
    let shape = || Some(Stages::parse("5s:10").unwrap());
    let second = || Some(Duration::from_secs(1));
    for bad in [
        flags(),
        Scenario { duration: second(), ..flags() },
        Scenario { stages: shape(), ..rate() },
        Scenario { stages: shape(), duration: second(), ..flags() },
        Scenario { users: Some(5), ..rate() },
        Scenario { warmup: second(), duration: second(), ..rate() },
        Scenario { connections: Some(5), copies: Some(3), ..flags() },
    ] {
        let error = bad.plan().unwrap_err();
        assert!(
            matches!(error, Error::Clash { .. }) && error.to_string().contains("give something like"),
            "{error}"
        );
    }
}
