#!/usr/bin/env bash
# What comes after the order, under load: buyers pay, pay twice, pay late, cancel, want their money back, or do nothing, at a bank that
# loses one answer in ten after the effect and sends its webhooks twice and out of order. Every five seconds a worker, with its relay
# and its subscribers, and a subscriber outside are killed. On the cluster back end, and then on the embedded one, where the one
# process that does everything is killed. Ends with the load test's verdict, in stock and in money.
#
#   scripts/lifecycle.sh [--orders N] [cluster|embedded]
#
# 20,000 orders unless you say otherwise, 200 a second.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "usage: scripts/lifecycle.sh [--orders N] [cluster|embedded]" >&2
    exit 2
}

orders=20000
tests=(workers_and_subscribers_die the_one_process_dies)
while [ $# -gt 0 ]; do
    case $1 in
        --orders)
            orders=${2:-}
            shift
            ;;
        cluster) tests=(workers_and_subscribers_die) ;;
        embedded) tests=(the_one_process_dies) ;;
        *) usage ;;
    esac
    shift
done
case $orders in '' | *[!0-9]* | 0*) usage ;; esac

scripts/setup.sh
export SECKILL_LIFECYCLE_ORDERS=$orders
for test in "${tests[@]}"; do
    cargo test --release --package seckill --test crash --locked -- --exact "lifecycle::lifecycle_while_$test"
done
