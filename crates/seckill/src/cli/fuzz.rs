//! Whatever is given for any flag of any command, the program takes it or says which flag it cannot take.

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};
use proptest::prelude::*;

use super::Cli;

/// Each flag that takes a value, after the names of its command.
fn flags(command: &Command, path: &[String], found: &mut Vec<(Vec<String>, String)>) {
    for flag in command.get_arguments().filter(|flag| flag.get_action().takes_values()) {
        if let Some(name) = flag.get_long() {
            found.push((path.to_vec(), name.to_owned()));
        }
    }
    for command in command.get_subcommands() {
        let path = [path, &[command.get_name().to_owned()]].concat();
        flags(command, &path, found);
    }
}

/// Values that are nearly right, and any text.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{0,25}(ms|s|m|h|%|/s)?",
        "-?[0-9]{1,5}(\\.[0-9]{0,5})?(e[0-9]{1,4})?",
        "(https?|redis|amqp|mysql)://[a-z0-9.:@/?\\[\\]%-]{0,30}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{0,12}(Z|\\+[0-9]{0,4})?",
        "[0-9a-f.:/]{0,40}",
        "\\PC{0,40}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn every_value_is_taken_or_refused_with_the_name_of_its_flag(
        which in any::<prop::sample::Index>(),
        value in value(),
    ) {
        let mut all = Vec::new();
        flags(&Cli::command(), &["seckill".to_owned()], &mut all);
        let (mut arguments, flag) = all.swap_remove(which.index(all.len()));
        arguments.push(format!("--{flag}={value}"));
        if let Err(error) = Cli::try_parse_from(&arguments)
            && matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue)
        {
            let message = error.to_string();
            prop_assert!(message.contains(&format!("--{flag}")), "{arguments:?}: {message}");
        }
    }
}
