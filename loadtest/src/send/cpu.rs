//! The CPU time of this process. Nothing else is measured here.

use std::time::Duration;

/// Linux counts CPU time for user space in hundredths of a second on every architecture that it still runs on.
const TICKS_PER_SECOND: u64 = 100;

/// What this process has used so far; `None` where the system does not say, which is everywhere but on Linux.
pub(crate) fn used() -> Option<Duration> {
    read(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// Reads `/proc/PID/stat` (proc(5)): fields 14 and 15 are the time in user space and in the kernel. The second field, the
/// program's name in brackets, may hold blanks.
fn read(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1_000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_kernel_time_are_added_whatever_the_name() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 95 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(read(stat), Some(Duration::from_secs(2)));
        assert_eq!(read("7 (cut off) R 1"), None);
    }
}
