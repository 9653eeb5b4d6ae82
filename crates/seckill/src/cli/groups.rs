//! The list of commands in the help, by what they are for. clap has headings for options, but only one for all commands.

use std::fmt::Write;

use clap::builder::StyledStr;
use clap::{CommandFactory, FromArgMatches};

use super::Cli;
use crate::terminal;

/// What the commands are for, and which they are. A test holds this against the commands.
const GROUPS: [(&str, &[&str]); 6] = [
    ("See what it is about", &["demo", "lab"]),
    ("Run it", &["gateway", "worker", "bank", "migrate", "healthcheck"]),
    ("Sell", &["sale", "order", "refund", "token", "audit"]),
    ("Operate it", &["drain", "parked", "rebuild", "reconcile"]),
    ("Follow what happens", &["subscribe", "events", "outbox", "subscriber"]),
    ("About this program", &["completions", "man", "openapi", "abort-points", "help"]),
];
/// Columns before the sentence about a command.
const INDENT: usize = 16;

/// The command line, as the help, the completions and the manual show it.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let header = command.get_styles().get_header();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}{header}Options:{header:#}\n{{options}}",
        listed(&command)
    );
    command.help_template(StyledStr::from(template))
}

/// Reads the command line of this process, or ends it with a message.
pub(crate) fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The commands with what they do, under the headings.
fn listed(command: &clap::Command) -> String {
    let styles = command.get_styles();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let columns = terminal::stdout().map_or(100, |size| size.columns.min(100));
    let mut text = String::new();
    for (heading, names) in GROUPS {
        let shown: Vec<_> = names.iter().filter_map(|name| Some((*name, about(command, name)?))).collect();
        if shown.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{header}{heading}:{header:#}");
        for (name, about) in shown {
            let about = textwrap::fill(&about, columns.saturating_sub(INDENT).max(20));
            let about = about.replace('\n', &format!("\n{:INDENT$}", ""));
            let _ = writeln!(text, "  {literal}{name:<w$}{literal:#}{about}", w = INDENT - 2);
        }
        text.push('\n');
    }
    text
}

/// What a command does, in a sentence; `None`: it is not part of this program.
fn about(command: &clap::Command, name: &str) -> Option<String> {
    if name == "help" {
        return Some("Explains a command, as --help does".to_owned());
    }
    let found = command.get_subcommands().find(|command| command.get_name() == name)?;
    (!found.is_hide_set()).then(|| found.get_about().map_or_else(String::new, ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Cli::command();
        let mut commands: Vec<_> =
            command.get_subcommands().filter(|one| !one.is_hide_set()).map(|one| one.get_name()).collect();
        commands.push("help");
        commands.sort_unstable();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        grouped.retain(|name| commands.contains(name) || cfg!(feature = "lab"));
        grouped.sort_unstable();
        assert_eq!(commands, grouped);
    }

    #[test]
    fn no_command_has_flags_that_contradict_each_other() {
        command().debug_assert();
    }
}
