#!/usr/bin/env bash
# Fails where a crate depends on something that its code does not name: [dependencies] must be named in src,
# [dev-dependencies] in src, tests, examples or benches, [build-dependencies] in build.rs, and [workspace.dependencies] in the
# manifest of a member. Comments do not count. `cargo machete` does the same and more, and takes minutes to install.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Prints "SECTION NAME" for each dependency of a manifest.
dependencies() {
    awk '
        /^\[/ {
            section = $0
            # Also the blanks of a section that is for one system only.
            gsub(/[][ ]/, "", section)
            if (match(section, /dependencies\./)) {
                print substr(section, 1, RSTART + 11), substr(section, RSTART + 13)
            }
            next
        }
        section ~ /dependencies$/ && /^[A-Za-z0-9_"-]+[ .=]/ {
            name = $0
            sub(/[ .=].*/, "", name)
            gsub(/"/, "", name)
            print section, name
        }
    ' "$1"
}

# named NAME PATH...: whether code there names the crate: `name::`, `use name;` or `use name as`.
named() {
    local name=${1//-/_} path paths=()
    shift
    for path in "$@"; do
        [ -e "$path" ] && paths+=("$path")
    done
    [ "${#paths[@]}" -gt 0 ] || return 1
    grep -rhE --include='*.rs' "(^|[^A-Za-z0-9_:])$name::|(^|[[:space:]])use $name(;| as )" "${paths[@]}" |
        grep -vE '^[[:space:]]*//' >/dev/null
}

unused=()
manifests=(crates/*/Cargo.toml loadtest/Cargo.toml)
for manifest in "${manifests[@]}"; do
    folder=$(dirname "$manifest")
    while read -r section name; do
        case $section in
        *dev-dependencies) places=(src tests examples benches) ;;
        *build-dependencies) places=(build.rs) ;;
        *) places=(src) ;;
        esac
        named "$name" "${places[@]/#/$folder/}" || unused+=("$manifest: $name is in [$section], and no code in ${places[*]} names it")
    done < <(dependencies "$manifest")
done
while read -r section name; do
    [ "$section" = workspace.dependencies ] || continue
    grep -qE "^$name(\.workspace)? *=" "${manifests[@]}" || unused+=("Cargo.toml: $name is in [$section], and no member depends on it")
done < <(dependencies Cargo.toml)

if [ "${#unused[@]}" -gt 0 ]; then
    printf '%s\n' "${unused[@]}" >&2
    exit 1
fi
