#!/bin/bash
# Runs nginx, and has it read again which gateways there are whenever that changes: nginx itself looks a name up only at its
# start (before 1.27.3 at least).
set -euo pipefail

gateways() {
    getent ahostsv4 gateway | awk '{ print "server " $1 ":8080 max_fails=1 fail_timeout=1s;" }' | sort -u
}

until current=$(gateways) && [[ -n $current ]]; do
    echo "there is no gateway yet; waiting for one"
    sleep 1
done
echo "$current" >/tmp/gateways.conf

follow() {
    local now
    while sleep 1; do
        # With no gateway at all the last ones stay: nginx needs at least one.
        now=$(gateways) || continue
        if [[ -n $now && $now != "$current" ]]; then
            current=$now
            echo "$current" >/tmp/gateways.conf
            echo "the gateways are now:" $current
            nginx -c /etc/seckill/nginx.conf -s reload || true
        fi
    done
}
follow &
exec nginx -c /etc/seckill/nginx.conf -g 'daemon off;'
