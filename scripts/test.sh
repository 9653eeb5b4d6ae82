#!/usr/bin/env bash
# All checks that a change has to pass, in the order in which they fail fastest. Stops at the first that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' red='' green='' plain=''
fi

names=()
seconds=()

print_times() {
    local at
    printf '\n%s%-12s %8s%s\n' "$bold" step seconds "$plain"
    for at in "${!names[@]}"; do
        printf '%-12s %8d\n' "${names[at]}" "${seconds[at]}"
    done
    printf '%-12s %8d\n' total "$SECONDS"
}

# step NAME COMMAND...
step() {
    local name=$1 begin=$SECONDS status=0
    shift
    printf '\n%s== %s:%s %s\n' "$bold" "$name" "$plain" "$*"
    "$@" || status=$?
    names+=("$name")
    seconds+=("$((SECONDS - begin))")
    if [ "$status" -ne 0 ]; then
        print_times
        printf '\n%sfailed: %s%s (exit status %d)\n' "$red" "$name" "$plain" "$status"
        exit "$status"
    fi
    printf '%s== %s passed%s in %d s\n' "$green" "$name" "$plain" "$((SECONDS - begin))"
}

step setup scripts/setup.sh
step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
step tests cargo test --workspace --locked
step docs env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
print_times
printf '\n%sall passed%s\n' "$green" "$plain"
