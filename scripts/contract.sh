#!/usr/bin/env bash
# Sends what nobody thought of to every call of the API, and compares the answers with the API's document: schemathesis against a
# gateway of its own, on the embedded back end. Installs schemathesis into target/tools. Not part of scripts/test.sh: it takes
# minutes, and needs Python 3.10 or newer.
#
#   scripts/contract.sh [--max-examples N] [OPTIONS OF schemathesis run]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=4.32.5
target=${CARGO_TARGET_DIR:-$PWD/target}
tools=$target/tools/schemathesis
if ! "$tools/bin/schemathesis" --version >/dev/null 2>&1; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet "schemathesis==$version"
fi
cargo build --locked --package seckill

work=$(mktemp -d)
seckill=$target/debug/seckill
# shellcheck disable=SC2329  # called by the trap
finish() {
    kill "$gateway" 2>/dev/null || true
    wait "$gateway" 2>/dev/null || true
    rm -rf "$work"
}
export SECKILL_JWT_SECRET SECKILL_ADMIN_TOKEN
SECKILL_JWT_SECRET=$(head -c 32 /dev/urandom | base64 -w 0)
SECKILL_ADMIN_TOKEN=$(head -c 24 /dev/urandom | base64 -w 0)
"$seckill" gateway --data-dir "$work/data" --listen 127.0.0.1:0 --order-rate-limit 0 --read-rate-limit 0 \
    --anonymous-rate-limit 0 --miss-rate-limit 0 --log-json 2>"$work/log" &
gateway=$!
trap finish EXIT
for _ in $(seq 100); do
    address=$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$work/log" | head -n 1)
    [ -n "$address" ] && break
    sleep 0.1
done
[ -n "$address" ] || { cat "$work/log" >&2; exit 1; }

"$seckill" sale create --server "http://$address" --name contract --stock 1000 --per-user-limit 5 --payment-window 1h >/dev/null
cat >"$work/schemathesis.toml" <<TOML
[auth.openapi.buyer]
bearer = "$("$seckill" token --user 1)"

[auth.openapi.admin]
bearer = "$SECKILL_ADMIN_TOKEN"

# 503 is an honest answer where it is described, as it is while a gate is rebuilt; a 422 may be about what no schema can say, such as
# a sale that ends before it starts.
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 402, 403, 404, 409, 422, 429, 503]

# An endless stream is no answer to wait for. This gateway has no bank and no controls; the tests of the page hold their calls against the
# document.
[[operations]]
include-path-regex = "/events$|^/api/v1/(live|bank|control)"
enabled = false
TOML
cd "$work"
"$tools/bin/schemathesis" --config-file "$work/schemathesis.toml" run "http://$address/openapi.json" \
    --seed "${SECKILL_CONTRACT_SEED:-1}" --max-examples 50 "$@"
