# Sourced by scripts/compose-test.sh: each server is killed, frozen, and loses its data, under load. Whatever happens, no promise may be
# broken; and each has a floor, which is the share of the requests, in percent, that must be accepted all the same.

# For how many seconds a server is away, and frozen: longer than the time-outs of those who ask it.
AWAY=3
FROZEN=8
# MySQL is what the queue is for: without it nothing changes for buyers. Without Redis or RabbitMQ nobody is promised anything. RabbitMQ
# is back 13 s after it was killed, of which its own start takes 8. From the end of Redis until its gates are rebuilt it takes 20 s: 3
# for AWAY, 2 for Compose, 1 each for reading its file and for the workers to be certain, 13 for the rebuild, and more where the gates
# that it still has hold many orders. So this load lasts longer: otherwise all of the share would be from before the fault. Seen on two
# busy cores: MySQL 99 to 100 %, frozen servers 83 to 89, Redis killed 56 and emptied 67, RabbitMQ killed 34 to 42 and emptied 51 to 54.
# The floors leave room for a slow machine.
floor() {
    case "$1 $2" in
        "mysql killed" | "mysql frozen") echo 90 ;;
        "mysql emptied") echo 70 ;;
        "redis killed" | "redis emptied") echo 30 ;;
        "redis frozen") echo 50 ;;
        "rabbitmq killed" | "rabbitmq emptied") echo 20 ;;
        "rabbitmq frozen") echo 50 ;;
    esac
}

killed() {
    compose kill -s KILL "$1" >>"$log" 2>&1
    sleep "$AWAY"
    recover
}

frozen() {
    compose pause "$1" >>"$log" 2>&1
    sleep "$FROZEN"
    compose unpause "$1" >>"$log" 2>&1
    recover
}

# empty SERVICE: removes all of its data, while it is not running.
empty() {
    docker run --rm --user 0 --network none -v "${project}_$1-data:/data" --entrypoint bash "${REDIS_IMAGE:-redis:8}" -c \
        'shopt -s dotglob nullglob && rm -rf /data/*'
}

emptied() {
    compose kill -s KILL "$1" >>"$log" 2>&1
    empty "$1"
    recover
}

# MySQL comes back from a backup, by the steps of docs/operations.md.
restored() {
    local backup=$folder/backup.sql gateway
    compose exec -T mysql bash -c \
        'mysqldump --user=root --password="$(cat /docker-entrypoint-initdb.d/root_password)" --single-transaction --databases seckill 2>/dev/null' \
        >"$backup"
    compose kill -s KILL mysql >>"$log" 2>&1
    compose stop worker >>"$log" 2>&1
    empty mysql
    compose start mysql >>"$log" 2>&1
    await 120 "MySQL to be set up anew" healthy "$(compose ps -q mysql)"
    compose exec -T mysql bash -c \
        'mysql --user=root --password="$(cat /docker-entrypoint-initdb.d/root_password)" 2>/dev/null' <"$backup"
    # One at a time: meanwhile the other one takes the orders.
    for gateway in $(compose ps -q gateway); do
        docker restart "$gateway" >/dev/null
        await 60 "the gateway to be healthy again" healthy "$gateway"
    done
    recover
    seckill reconcile "$sale" >/dev/null
}

healthy() {
    [ "$(docker inspect "$1" --format '{{.State.Health.Status}}')" = healthy ]
}

# outage SERVICE killed|frozen|emptied
outage() {
    local service=$1 fault=$2 accepted floor
    # Setting MySQL up anew takes as long as the other loads last, and so does a gate that is lost.
    [[ ! "$service $fault" =~ ^(mysql emptied|redis killed|redis emptied)$ ]] || local lasts=$((lasts * 3))
    # What RabbitMQ has lost is sent again after a minute and more.
    [ "$fault" != emptied ] || local stall=150s
    start_load
    # Some orders are on their way to each server when it goes away.
    sleep 2
    if [ "$service $fault" = "mysql emptied" ]; then
        restored
    else
        "$fault" "$service"
    fi
    end_load
    floor=$(floor "$service" "$fault")
    accepted=$(sed -n 's/.*│ *accepted  *[0-9]*  *\([0-9]*\)\.[0-9]* %.*/\1/p' "$folder/load.txt" | head -n 1)
    [ "${accepted:-0}" -ge "$floor" ] || fail "$service $fault: ${accepted:-no} % accepted, the floor is $floor %: $(cat "$folder/load.txt")"
    echo "   accepted $accepted % (floor $floor %)"
}
