//! The queue's scripts. What a script does is written in the script.

use deadpool_redis::redis::Script;

pub(super) struct Scripts {
    pub(super) open: Script,
    pub(super) take: Script,
    pub(super) beat: Script,
    pub(super) give_back: Script,
    pub(super) ack: Script,
    pub(super) shift: Script,
    pub(super) ready: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            open: Script::new(include_str!("open.lua")),
            take: Script::new(include_str!("take.lua")),
            beat: Script::new(include_str!("beat.lua")),
            give_back: Script::new(include_str!("give_back.lua")),
            ack: Script::new(include_str!("ack.lua")),
            shift: Script::new(include_str!("move.lua")),
            ready: Script::new(include_str!("ready.lua")),
        }
    }
}
