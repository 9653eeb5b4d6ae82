#!/usr/bin/env bash
# Everything at once, for as long as you like: buyers order over HTTP while processes are killed and frozen, servers are restarted,
# and in each round of about two minutes one of the three stores loses what it has. Every round ends with a check of every promise in
# SQL and against what the buyers were answered. Prints the totals at the end, and stops at the first broken promise.
#
#   scripts/chaos.sh [--minutes N] [--seed S]
#
# The seed fixes the order of events. Without one, a new seed is chosen and printed. The last round is finished after N minutes (20).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "usage: scripts/chaos.sh [--minutes N] [--seed S]" >&2
    exit 2
}

minutes=20
seed=
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
        --minutes) minutes=$2 ;;
        --seed) seed=$2 ;;
        *) usage ;;
    esac
    shift 2
done
for number in "$minutes" "${seed:-0}"; do
    case $number in '' | *[!0-9]*) usage ;; esac
done

scripts/setup.sh
export SECKILL_CHAOS_MINUTES=$minutes SECKILL_CHAOS_SEED=$seed
exec cargo test --package seckill --test crash --locked -- --exact chaos::everything_at_once
