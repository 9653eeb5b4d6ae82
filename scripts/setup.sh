#!/usr/bin/env bash
# Installs what the tests need beside Rust: the servers redis-server, rabbitmq-server and MariaDB (or MySQL), and Chromium
# with its driver, in which the pages are tested; and axe-core, which finds what keeps people from using a page. No server is
# started or enabled; the tests start private ones. Does nothing where everything is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

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
    # npm, where it is and works, or curl fetches axe-core.
    has_axe || has curl || echo curl
    has_axe || [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

# The version and the checksum of axe-core are in package-lock.json, where npm and bots look for them.
testkit=crates/testkit
axe=$testkit/node_modules/axe-core

# locked FIELD prints a field of axe-core in package-lock.json.
locked() {
    sed -n '/"node_modules\/axe-core"/,/}/s/.*"'"$1"'": "\(.*\)".*/\1/p' "$testkit/package-lock.json"
}

has_axe() {
    [ -e "$axe/axe.min.js" ] && grep -q "\"version\": \"$(locked version)\"" "$axe/package.json"
}

# Debian's npm brings in hundreds of packages, so where there is no npm, curl does the little that npm would.
install_axe() {
    has_axe && return
    local version sum file
    version=$(locked version)
    echo "installing: axe-core $version"
    # In the folder, since --prefix would hide the machine's own configuration of npm.
    if has npm && (cd "$testkit" && npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=0); then
        return
    fi
    file=$(mktemp)
    curl --fail --silent --show-error --location --retry 3 --output "$file" \
        "${npm_config_registry:-https://registry.npmjs.org}/axe-core/-/axe-core-$version.tgz"
    sum=$(locked integrity)
    if ! echo "$(base64 --decode <<<"${sum#sha512-}" | od -An -v -tx1 | tr -d ' \n')  $file" | sha512sum --check --quiet; then
        echo "axe-core $version is not what package-lock.json says it is" >&2
        rm -f "$file"
        exit 1
    fi
    rm -rf "$axe"
    mkdir -p "$axe"
    tar -xzf "$file" -C "$axe" --strip-components=1
    rm -f "$file"
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
    install_axe
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
install_axe
