#!/usr/bin/env bash
# Installs what the tests need beside Rust: the servers redis-server, rabbitmq-server and MariaDB (or MySQL), and Chromium
# with its driver, in which the report's page is tested. No server is started or enabled; the tests start private ones. Does
# nothing where everything is there.
set -euo pipefail

# Where servers are installed on systems whose users do not have that on their PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/lib/rabbitmq/bin"

has() {
    command -v "$1" >/dev/null 2>&1
}

need_rust() {
    if ! has cargo; then
        echo "cargo is not installed; get Rust from https://rustup.rs, then run $0 again" >&2
        exit 1
    fi
    local part
    for part in rustfmt clippy; do
        if ! cargo "${part/rustfmt/fmt}" --version >/dev/null 2>&1; then
            echo "cargo has no $part; run: rustup component add $part" >&2
            exit 1
        fi
    done
}

# Prints the packages of what is missing, one a line.
missing_packages() {
    has redis-server || echo redis-server
    has rabbitmq-server || echo rabbitmq-server
    # MySQL does as well. MariaDB needs a program of its own to make its system tables.
    if has mariadbd; then
        has mariadb-install-db || echo mariadb-server
    elif ! has mysqld; then
        echo mariadb-server
    fi
    # The driver and the browser must be of the same version, so they come from the same place.
    has chromium || has chromium-browser || has google-chrome || echo chromium
    has chromedriver || echo chromium-driver
}

# Fills the array `missing`.
look() {
    local package
    missing=()
    while read -r package; do
        missing+=("$package")
    done < <(missing_packages)
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        echo "installing needs root, and there is no sudo; run as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
}

# Debian's packages start their servers unless this file says no. One that is there already stays as it is.
POLICY=/usr/sbin/policy-rc.d

remove_policy() {
    as_root rm -f "$POLICY"
}

apt_install() {
    if [ ! -e "$POLICY" ]; then
        trap remove_policy EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
        as_root chmod +x "$POLICY"
    fi
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
}

need_rust
look
if [ "${#missing[@]}" -eq 0 ]; then
    echo "everything that the tests need is installed"
    exit 0
fi
if ! has apt-get; then
    cat >&2 <<EOF
missing: ${missing[*]}, and there is no apt-get to install them with. Install them by hand, then run $0 again:
  Homebrew: brew install redis rabbitmq mariadb chromium chromedriver
  Fedora:   sudo dnf install redis rabbitmq-server mariadb-server chromium chromedriver
EOF
    exit 1
fi
echo "installing: ${missing[*]}"
apt_install "${missing[@]}"
look
if [ "${#missing[@]}" -gt 0 ]; then
    echo "still missing after the installation: ${missing[*]}" >&2
    exit 1
fi
