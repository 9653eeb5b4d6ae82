#!/usr/bin/env bash
# Measures the seconds from `seckill demo --open` to the sentence with the numbers being on the screen, in headless Chromium.
#
#   scripts/stopwatch.sh [PROGRAM]     PROGRAM is a seckill that is built already; without, one is built (release)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

program=${1:-}
if [ -z "$program" ]; then
    cargo build --release --locked -p seckill
    program=${CARGO_TARGET_DIR:-target}/release/seckill
fi
cargo run --quiet --locked -p seckill-testkit --features browser --example stopwatch -- "$(realpath "$program")"
