#!/usr/bin/env bash
# Counts the processor's instructions that one order costs the gateway, and its single steps, under valgrind's callgrind. Unlike a
# time, the count hardly depends on the machine or on what else runs there. What the kernel does is not in it.
#
#   scripts/instructions.sh               compares with crates/bench/instructions.tsv; fails where one differs by more than 10 %
#   scripts/instructions.sh --renew       writes that file anew
#   scripts/instructions.sh --profile CASE   the functions that take most of a case: accepted, sold-out, token, message
#
# Needs valgrind (Debian: apt-get install valgrind).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

baseline=crates/bench/instructions.tsv
cases=(accepted sold-out token message)
mode=compare

usage() {
    echo "usage: scripts/instructions.sh [--renew | --profile CASE]; the cases are: ${cases[*]}" >&2
    exit 2
}

case ${1:-} in
    '') ;;
    --renew) mode=renew ;;
    --profile)
        [[ $# -eq 2 && " ${cases[*]} " == *" $2 "* ]] || usage
        mode=profile cases=("$2")
        ;;
    *) usage ;;
esac
command -v valgrind >/dev/null || { echo "instructions: valgrind is missing; on Debian: apt-get install valgrind" >&2; exit 1; }

cargo build --release --locked --quiet -p seckill-bench --bin instructions
program=${CARGO_TARGET_DIR:-target}/release/instructions
folder=$(mktemp -d)
server=''

clean_up() {
    [ -z "$server" ] || { kill -9 "$server" && wait "$server"; } 2>/dev/null || true
    rm -rf "$folder"
}
trap clean_up EXIT

callgrind=(valgrind --tool=callgrind --quiet "--callgrind-out-file=$folder/out")

# collected FILE: the instructions in an output of callgrind.
collected() {
    awk '$1 == "totals:" || $1 == "summary:" { total = $2 } END { print total }' "$1"
}

# A step COUNT times, in a process of its own; the same with more of them is subtracted, so that the start is not in it.
step() {
    local few many
    "${callgrind[@]}" "$program" "$1" 200
    few=$(collected "$folder/out")
    "${callgrind[@]}" "$program" "$1" 1200
    many=$(collected "$folder/out")
    echo $(((many - few) / 1000))
}

# request SALE STATUS: of a gateway that has answered some requests already.
request() {
    local address tries orders=2000
    "${callgrind[@]}" --instr-atstart=no "$program" serve "$folder/data" >"$folder/address" 2>"$folder/log" &
    server=$!
    for tries in $(seq 600); do
        read -r address <"$folder/address" && break
        sleep 0.1
    done
    # The first order of the sale with one unit is accepted, so that all others are refused.
    "$program" order "$address" 2 1 1 202
    # Until the gateway answers from memory alone.
    "$program" order "$address" "$1" 1000 500 "$2"
    callgrind_control --instr=on "$server" &>/dev/null
    "$program" order "$address" "$1" 10000 "$orders" "$2"
    callgrind_control --dump "$server" &>/dev/null
    kill -9 "$server" && wait "$server" 2>/dev/null || true
    server=''
    rm -rf "$folder/data"
    mv "$folder"/out.1 "$folder/out"
    echo $(($(collected "$folder/out") / orders))
}

# count CASE
count() {
    case $1 in
        accepted) request 1 202 ;;
        sold-out) request 2 409 ;;
        *) step "$1" ;;
    esac
}

for case in "${cases[@]}"; do
    printf '%s\t%s\n' "$case" "$(count "$case")"
done | tee "$folder/counted"

case $mode in
    profile) callgrind_annotate --inclusive=no --threshold=95 "$folder/out" ;;
    renew) cp "$folder/counted" "$baseline" ;;
    compare)
        awk -F '\t' '
            NR == FNR { before[$1] = $2; next }
            !($1 in before) { print "instructions: " $1 " is not in the baseline"; bad = 1; next }
            { ratio = $2 / before[$1] }
            ratio < 0.9 || ratio > 1.1 {
                printf "instructions: %s takes %d instructions, %.0f %% of the %d in the baseline. ", $1, $2, ratio * 100, before[$1]
                print "If that is meant: scripts/instructions.sh --renew"
                bad = 1
            }
            END { exit bad }' "$baseline" "$folder/counted" >&2
        ;;
esac
