#!/usr/bin/env bash
# Takes safeguards out of the code, one at a time, and runs the tests of the crate: each that no test notices is printed. For the
# paths that an order's promises depend on: core, the gateway's intake and recovery, the worker, and what gate and ledger commit.
# Takes hours, so it is not part of scripts/test.sh. Results: mutants.out/.
#
#   scripts/mutants.sh [--list] [CRATE]     CRATE: a folder in crates/ (core gateway worker cluster embedded); all of them by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "usage: scripts/mutants.sh [--list] [core|gateway|worker|cluster|embedded]" >&2
    exit 2
}

list=()
crates=()
for argument in "$@"; do
    case $argument in
    --list) list=(--list) ;;
    core | gateway | worker | cluster | embedded) crates+=("$argument") ;;
    *) usage ;;
    esac
done
[ "${#crates[@]}" -gt 0 ] || crates=(core gateway worker cluster embedded)

# The files of a crate that promises depend on.
files_of() {
    case $1 in
    core) echo crates/core/src/{audit,claim,decide,message,opening,order,sale,sale/new}.rs ;;
    gateway) echo crates/gateway/src/{intake,recover,reconcile,retry,directory}.rs ;;
    worker) echo crates/worker/src/{drain,held,rebuild}.rs "crates/worker/src/drain/*.rs" ;;
    cluster | embedded) echo "crates/$1/src/gate.rs" "crates/$1/src/gate/*.rs" "crates/$1/src/ledger.rs" "crates/$1/src/ledger/*.rs" ;;
    esac
}

scripts/setup.sh
command -v cargo-mutants >/dev/null || cargo install cargo-mutants --locked

mkdir -p mutants.out
missed=0
for crate in "${crates[@]}"; do
    arguments=()
    set -f
    for file in $(files_of "$crate"); do arguments+=(--file "$file"); done
    set +f
    printf '\n== %s\n' "$crate"
    # A mutant that makes a test wait for ever counts as noticed. Exit status 2: some were not noticed; go on with the next crate.
    status=0
    cargo mutants "${list[@]}" --package "seckill-$crate" --output "mutants.out/$crate" --no-shuffle --timeout 300 \
        --cargo-arg=--locked "${arguments[@]}" || status=$?
    case $status in
    0 | 3) ;;
    2) missed=1 ;;
    *) exit "$status" ;;
    esac
done
[ "${#list[@]}" -eq 0 ] || exit 0
if [ "$missed" -ne 0 ]; then
    echo "some were not noticed: mutants.out/*/mutants.out/missed.txt"
    exit 1
fi
echo "every one was noticed"
