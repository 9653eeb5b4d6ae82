#!/usr/bin/env bash
# All checks that a change has to pass, in the order in which they fail fastest. Stops at the first that fails.
#
#   scripts/test.sh           everything
#   scripts/test.sh CRATE     format, clippy and tests of one crate: a folder in crates/ (worker), or loadtest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "usage: scripts/test.sh [CRATE]; the crates are: $(cd crates && echo *) loadtest" >&2
    exit 2
}

[ $# -le 1 ] || usage
crate=${1:-}
scope=(--workspace)
format=(--all)
if [ -n "$crate" ]; then
    folder=crates/${crate#seckill-}
    [ "$crate" = loadtest ] && folder=loadtest
    # The program itself is called seckill, in crates/seckill.
    [ -f "$folder/Cargo.toml" ] || usage
    scope=(--package "$(sed -n 's/^name = "\(.*\)"$/\1/p' "$folder/Cargo.toml" | head -n 1)")
    format=("${scope[@]}")
fi

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m' color=always
else
    bold='' red='' green='' plain='' color=never
fi

# The same events in every run; scripts/chaos.sh is for new ones.
export SECKILL_CHAOS_SEED=${SECKILL_CHAOS_SEED:-1}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
names=()
seconds=()

# Adds to the table what each test binary took, as it reported that itself.
print_binaries() {
    [ -s "$work/tests" ] && [ -s "$work/artifacts" ] || return 0
    # From each binary's name to the folder of its crate.
    sed -n 's|.*"package_id":"path+file://[^"#]*/\([^/"#]*\)#[^"]*".*"executable":"[^"]*/\([^/"]*\)".*|\2 \1|p' \
        "$work/artifacts" >"$work/crates"
    sed 's/\x1b\[[0-9;]*m//g' "$work/tests" | awk '
        NR == FNR { crate[$1] = $2; next }
        $1 == "Running" {
            binary = $NF
            gsub(/.*\/|[()]/, "", binary)
            kind = $2 == "unittests" ? $2 " " $3 : $2
            label = crate[binary] ": " kind
        }
        $1 == "Doc-tests" { label = $2 ": doc tests" }
        /^test result:/ && match($0, /finished in [0-9.]+/) {
            time = substr($0, RSTART + 12, RLENGTH - 12)
            if ($4 > 0 || $6 > 0) printf "  %-38s %8.1f\n", label, time
        }' "$work/crates" -
}

print_times() {
    local at
    printf '\n%s%-40s %8s%s\n' "$bold" step seconds "$plain"
    for at in "${!names[@]}"; do
        printf '%-40s %8d\n' "${names[at]}" "${seconds[at]}"
        [ "${names[at]}" = tests ] && print_binaries
    done
    printf '%-40s %8d\n' total "$SECONDS"
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

build_tests() {
    cargo test "${scope[@]}" --locked --no-run --message-format=json-render-diagnostics >"$work/artifacts"
}

# All test binaries run, also after one has failed. Tests wait for servers for half of their time, so half as many more of them
# run at once as there are processors.
run_tests() {
    local threads=$((($(nproc) * 3 + 1) / 2))
    cargo test "${scope[@]}" --locked --no-fail-fast --color "$color" -- --color "$color" --test-threads "$threads" 2>&1 |
        tee "$work/tests"
}

step setup scripts/setup.sh
step format cargo fmt "${format[@]}" --check
step dependencies scripts/unused-deps.sh
[ -n "$crate" ] || step "licences and sources" scripts/deny.sh
step clippy cargo clippy "${scope[@]}" --all-targets --locked -- -D warnings
step 'build of the tests' build_tests
step tests run_tests
if [ -z "$crate" ] || [ "$crate" = seckill ]; then
    step 'a build without the lab' cargo test --package seckill --no-default-features --test without_lab --locked
fi
if [ -z "$crate" ]; then
    step docs env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
fi
print_times
printf '\n%sall passed%s\n' "$green" "$plain"
