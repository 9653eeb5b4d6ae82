#!/usr/bin/env bash
# Everything at once, for as long as you like: buyers order over HTTP while processes are killed and frozen, servers are restarted,
# and in each round of about two minutes one of the three stores loses what it has. Every round ends with a check of every promise in
# SQL and against what the buyers were answered. Prints the totals at the end, and stops at the first broken promise.
#
#   scripts/chaos.sh [--minutes N] [--seed S] [--queue rabbitmq|redis-streams]
#
# The seed fixes the order of events. Without one, a new seed is chosen and printed. The last round is finished after N minutes (20).
# The orders wait on RabbitMQ, or in streams of a Redis of their own, which is then restarted and loses what it has as well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "usage: scripts/chaos.sh [--minutes N] [--seed S] [--queue rabbitmq|redis-streams]" >&2
    exit 2
}

minutes=20
seed=
queue=rabbitmq
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
        --minutes) minutes=$2 ;;
        --seed) seed=$2 ;;
        --queue) queue=$2 ;;
        *) usage ;;
    esac
    shift 2
done
for number in "$minutes" "${seed:-0}"; do
    case $number in '' | *[!0-9]*) usage ;; esac
done
case $queue in rabbitmq | redis-streams) ;; *) usage ;; esac

scripts/setup.sh
export SECKILL_CHAOS_MINUTES=$minutes SECKILL_CHAOS_SEED=$seed SECKILL_CHAOS_QUEUE=$queue
exec cargo test --package seckill --test crash --locked -- --exact chaos::everything_at_once
