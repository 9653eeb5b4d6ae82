//! The arguments of the commands for shells and manuals. The doc comments are the help.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages; it is made if it is not there
    #[arg(long, value_name = "DIR", default_value = "man")]
    pub(crate) out: PathBuf,
}
