//! The exit codes of the program beside 0.

/// A fault.
pub(crate) const FAULT: u8 = 1;
/// Wrong usage; clap exits with it, too.
pub(crate) const USAGE: u8 = 2;
/// An invariant of a sale is violated.
pub(crate) const INVARIANT_VIOLATED: u8 = 3;
