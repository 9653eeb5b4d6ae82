#!/usr/bin/env bash
# Checks what the workspace depends on against deny.toml: licences, sources, banned crates, and known vulnerabilities where the
# database of advisories can be fetched. Installs cargo-deny into target/tools where it is missing, which takes some minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
tools=$PWD/target/tools
export PATH="$tools/bin:$PATH"
if ! command -v cargo-deny >/dev/null 2>&1; then
    # Unoptimized: it runs for a second, and is built in half the time.
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$tools/build cargo install cargo-deny --version "$version" --locked --no-default-features --debug --root "$tools"
    rm -rf "$tools/build"
fi

cargo deny --all-features --locked check bans licenses sources
if cargo deny --locked fetch db >/dev/null 2>&1; then
    cargo deny --all-features --locked check --disable-fetch advisories
else
    echo "the database of advisories could not be fetched; known vulnerabilities were not looked for" >&2
fi
