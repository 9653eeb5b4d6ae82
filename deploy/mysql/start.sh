#!/bin/bash
# Starts MySQL through the image's own entry point, but not with so little memory that the kernel would kill it without a
# word. Its settings are in docker-compose.yml.
set -euo pipefail

# In MiB. Idle it takes 300; with less than this, its start or its first load ends it.
needed=400

limit=
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
    if [[ -r $file ]]; then
        limit=$(<"$file")
        break
    fi
done
if [[ $limit =~ ^[0-9]+$ ]] && ((limit / 1048576 < needed)); then
    echo "MySQL needs $needed MiB of memory, this container may have $((limit / 1048576)):" \
        "raise SECKILL_MYSQL_MEMORY in .env" >&2
    exit 1
fi
exec docker-entrypoint.sh mysqld "$@"
