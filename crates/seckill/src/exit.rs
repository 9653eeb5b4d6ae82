//! The exit codes of the program beside 0.

pub(crate) const FAULT: u8 = 1;
/// Wrong usage; clap exits with it, too.
pub(crate) const USAGE: u8 = 2;
pub(crate) const INVARIANT_VIOLATED: u8 = 3;
