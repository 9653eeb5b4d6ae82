//! The gate's scripts. What a script does is written in the script.

use deadpool_redis::redis::Script;

pub(super) struct Scripts {
    pub(super) open: Script,
    pub(super) reserve: Script,
    pub(super) settle: Script,
    pub(super) stranded: Script,
    pub(super) level: Script,
    pub(super) condition: Script,
    pub(super) fence: Script,
    pub(super) stage: Script,
    pub(super) refill: Script,
    pub(super) release: Script,
    pub(super) marker: Script,
    pub(super) passed: Script,
    pub(super) held: Script,
    pub(super) resending: Script,
    pub(super) reconciled: Script,
    pub(super) progress: Script,
    pub(super) sold_out: Script,
    pub(super) change: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            open: Script::new(include_str!("open.lua")),
            reserve: Script::new(include_str!("reserve.lua")),
            settle: Script::new(include_str!("settle.lua")),
            stranded: Script::new(include_str!("stranded.lua")),
            level: Script::new(include_str!("level.lua")),
            condition: Script::new(include_str!("condition.lua")),
            fence: Script::new(include_str!("fence.lua")),
            stage: Script::new(include_str!("stage.lua")),
            refill: Script::new(include_str!("refill.lua")),
            release: Script::new(include_str!("release.lua")),
            marker: Script::new(include_str!("marker.lua")),
            passed: Script::new(include_str!("passed.lua")),
            held: Script::new(include_str!("held.lua")),
            resending: Script::new(include_str!("resending.lua")),
            reconciled: Script::new(include_str!("reconciled.lua")),
            progress: Script::new(include_str!("progress.lua")),
            sold_out: Script::new(include_str!("sold_out.lua")),
            change: Script::new(include_str!("change.lua")),
        }
    }
}
