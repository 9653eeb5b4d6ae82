#!/usr/bin/env bash
# Tests the stack of docker-compose.yml with 2 gateways behind nginx and 3 workers: starts it, looks at what each container may do,
# fires the load test through it, restarts each service under load, kills, freezes and empties each server, kills gateways and
# workers, feeds it bad input, and audits every order each time. In the end nothing of it is left. Runs as a Compose project of its
# own, with an image of its own, on free ports, beside a stack that is already there.
#
#   scripts/compose-test.sh             builds the image first; SECKILL_IMAGE=… takes an image that exists
#   ONLY='load|killed' scripts/compose-test.sh      only the steps whose name matches, beside the first ones
#
# RATE (1000) orders a second are sent, for LASTS (20) seconds in each run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

project=seckill-test
rate=${RATE:-1000}
lasts=${LASTS:-20}
# What the repository says counts, not what a user has set.
export COMPOSE_DISABLE_ENV_FILE=1
# An image that was there before stays as it is, and keeps its tag.
own_image=${SECKILL_IMAGE:+no}
export SECKILL_IMAGE=${SECKILL_IMAGE:-seckill-test:$$}
unset COMPOSE_FILE COMPOSE_PROFILES COMPOSE_PROJECT_NAME

folder=$(mktemp -d)
log=$folder/compose.log
alone=(-f docker-compose.yml)
files=(-f docker-compose.yml -f docker-compose.scale.yml)
production=(-f docker-compose.yml -f deploy/production.yml)
scaled_production=("${production[@]}" -f docker-compose.scale.yml)
others=()
# The newest one that was audited; the first is that of `seed`.
sale=1

compose() {
    docker compose --progress plain -p "$project" "${files[@]}" "$@"
}

clean_up() {
    local status=$? other
    trap - EXIT INT TERM
    if [ "$status" -ne 0 ]; then
        echo "failed (exit status $status); what Compose said last, the containers, and their last words:" >&2
        tail -n 15 "$log" >&2 || true
        compose ps -a >&2 || true
        compose logs --tail 5 >&2 || true
    fi
    for other in "${others[@]}"; do
        docker rm -f "$other" >/dev/null 2>&1 || true
    done
    compose --profile '*' down -v --remove-orphans -t 5 >>"$log" 2>&1 || true
    small down -v -t 1 >>"$log" 2>&1 || true
    [ -n "$own_image" ] || docker rmi "$SECKILL_IMAGE" >>"$log" 2>&1 || true
    rm -rf "$folder"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "compose-test: $1" >&2
    exit 1
}

# step NAME COMMAND... runs a command and prints how long it took. `part` does so unless ONLY leaves it out.
part() {
    [[ ! $1 =~ ${ONLY:-.} ]] || step "$@"
}

step() {
    local name=$1 begin=$SECONDS
    shift
    printf '== %s\n' "$name"
    "$@"
    printf '   ok, %d s\n' "$((SECONDS - begin))"
}

# await SECONDS WHAT COMMAND... waits until a command succeeds, and says what it has waited for in vain.
await() {
    local deadline=$((SECONDS + $1)) what=$2 seconds=$1
    shift 2
    echo "   waiting for $what, $seconds s at the most"
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited $seconds s in vain for $what"
        sleep 0.5
    done
}

# free_port FROM: the first free one from there on.
free_port() {
    local port
    for port in $(seq "$1" "$(($1 + 99))"); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    fail "no free port from $1 on"
}

up() {
    compose up -d --no-build --wait --wait-timeout 180 --scale gateway=2 --scale worker=3 >>"$log" 2>&1
}

bring_up() {
    echo "   waiting until every service is healthy, 180 s at the most"
    up
}

# After a restart: a gateway whose queue is away is unhealthy for a while, as it should be, and then `up` gives up at once.
recover() {
    await 180 "every service to be healthy again" up
}

seckill() {
    compose exec -T gateway seckill "$@"
}

# The value of a field in pretty JSON on standard input, where the field is there once.
field() {
    sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" | head -n 1
}

newest_sale() {
    seckill sale list --json | field id
}

# audit SALE: must be clean once nothing is in flight.
audit() {
    local report
    report=$(seckill audit "$1" --wait 180s --json)
    if [ "$(field verdict <<<"$report")" != clean ]; then
        fail "the audit of sale $1 is not clean: $report"
    fi
    echo "   audit of sale $1: clean, $(field committed_orders <<<"$report") orders committed"
}

start_load() {
    before=$(newest_sale)
    compose run --rm -T loadtest run --rate "$rate" -z "${lasts}s" --stock "$((rate * lasts))" --drain-stall "${stall:-30s}" --quiet \
        >"$folder/load.txt" 2>"$folder/load.err" &
    load=$!
    await 30 "the first orders of the load test" orders_come
}

orders_come() {
    kill -0 "$load" 2>/dev/null || fail "the load test has ended at once: $(tail -n 3 "$folder/load.err")"
    local sales
    sales=$(seckill sale list --json 2>/dev/null) || return 1
    sale=$(field id <<<"$sales")
    [ "$sale" != "$before" ] && [ "$(field orders <<<"$sales")" -gt 0 ]
}

# What is refused while a server is away is no failure: the verdict is about what was promised. 4 is "unclear": while a gate is rebuilt,
# nobody can say whether stock is conserved. The audit waits until it can.
end_load() {
    local status=0
    echo "   waiting for the load test, which has deadlines of its own"
    wait "$load" || status=$?
    grep -E '^(orders|invariants|verdict) ' "$folder/load.txt" | sed 's/^/   | /' || true
    [[ $status =~ ^[04]$ ]] || fail "the load test ended with $status: $(cat "$folder/load.txt" "$folder/load.err")"
    audit "$sale"
}

load_alone() {
    start_load
    end_load
}

restart_under_load() {
    start_load
    compose restart "$1" >>"$log" 2>&1
    recover
    end_load
}

kill_under_load() {
    start_load
    compose kill gateway worker >>"$log" 2>&1
    nginx_is_honest
    recover
    end_load
}

# What nginx answers by itself is a problem with the status that the answer has.
nginx_is_honest() {
    local answer
    answer=$(curl -s -m 20 -w '\n%{http_code} %{content_type}' "http://127.0.0.1:$SECKILL_PORT/api/v1/sales") || true
    [[ $answer =~ \"status\":(50[24]).*$'\n'(50[24])\ application/problem\+json && ${BASH_REMATCH[1]} = "${BASH_REMATCH[2]}" ]] ||
        fail "nginx answers without gateways: $answer"
}

# refused WHAT PATTERN COMMAND...: the command must fail, and say why on its last line.
refused() {
    local what=$1 pattern=$2 said
    shift 2
    if said=$("$@" 2>&1); then
        fail "$what was not refused: $said"
    fi
    if ! tail -n 1 <<<"$said" | grep -qE "$pattern"; then
        fail "$what: the last line does not say why (/$pattern/): $said"
    fi
    echo "   refused, $what: $(tail -n 1 <<<"$said" | cut -c 1-150)"
}

one_off() {
    timeout 60 docker compose --progress quiet -p "$project" "${files[@]}" run --rm -T --no-deps "$@"
}

flush_redis() {
    local said
    said=$(compose exec -T redis bash -c \
        'redis-cli --no-auth-warning --user app --pass "$(sed -n "s/^user app on >\([0-9a-f]*\) .*/\1/p" /etc/seckill/users.acl)" '"$1")
    echo "$said"
    [[ $said != *NOPERM* ]]
}

root_sql() {
    compose exec -T mysql bash -c \
        'mysql --user=root --password="$(cat /docker-entrypoint-initdb.d/root_password)" --execute="$0" 2>/dev/null' "$1"
}

# An experiment for each kind of thing that it uses: tables and queues, keys in Redis, streams, the gate's scripts. It exits 3 if a
# safeguard does not hold, and 1 if a right is missing.
experiments() {
    local name
    for name in check-then-act redis-dedup which-broker gate-without-pending-log; do
        seckill lab run "$name" >"$folder/lab.txt" 2>&1 || fail "the experiment $name: $(cat "$folder/lab.txt")"
        grep '^verdict' "$folder/lab.txt" | sed "s/^/   $name: /"
    done
}

rights() {
    refused "DDL to the program's user in MySQL" 'CREATE command denied' \
        one_off -e SECKILL_MYSQL_URL_FILE=/run/seckill/app/mysql_url gateway migrate
    local command
    for command in FLUSHALL FLUSHDB 'KEYS x' 'CONFIG GET x' 'SHUTDOWN' 'GET other'; do
        refused "$command to the program's user in Redis" NOPERM flush_redis "$command"
    done
    refused "guest in RabbitMQ" 'in the amqp url' \
        one_off -e SECKILL_AMQP_URL_FILE= -e SECKILL_AMQP_URL=amqp://guest:guest@rabbitmq:5672/seckill gateway worker
}

bad_input() {
    refused "a wrong password for Redis" 'in the redis url' \
        one_off -e SECKILL_REDIS_URL_FILE= -e SECKILL_REDIS_URL=redis://app:wrong@redis:6379/0 gateway gateway
    refused "a wrong password for MySQL" 'in the mysql url' \
        one_off -e SECKILL_MYSQL_URL_FILE= -e SECKILL_MYSQL_URL=mysql://app:wrong@mysql:3306/seckill gateway gateway
    refused "a file that is not there" 'cannot read /none' one_off -e SECKILL_MYSQL_URL_FILE=/none gateway gateway
    root_sql "CREATE DATABASE bare; GRANT SELECT ON bare.* TO 'app'@'%'"
    local url
    url=$(compose run --rm -T --entrypoint cat secrets /volumes/app/mysql_url)
    refused "a database without schema" 'run `seckill migrate`' \
        one_off -e SECKILL_MYSQL_URL_FILE= -e SECKILL_MYSQL_URL="${url%/seckill}/bare" gateway gateway
    root_sql "DROP DATABASE bare; INSERT INTO seckill._sqlx_migrations SELECT 9999, description, installed_on, success, \
checksum, execution_time FROM seckill._sqlx_migrations LIMIT 1"
    refused "a schema that is newer than the program" 'use the newer seckill' one_off migrate
    root_sql "DELETE FROM seckill._sqlx_migrations WHERE version = 9999"
    port_taken
    small_memory
}

port_taken() {
    compose stop nginx >>"$log" 2>&1
    docker run -d --rm --name "$project-port" -e SECKILL_DEMO=1 -p "127.0.0.1:$SECKILL_PORT:8080" "$SECKILL_IMAGE" gateway >/dev/null
    others+=("$project-port")
    refused "a port that is taken" 'already (allocated|in use)' compose up -d --no-deps --no-recreate nginx
    docker rm -f "$project-port" >/dev/null
    bring_up
}

small() {
    docker compose --progress plain -p "$project-small" "${alone[@]}" "$@"
}

small_said() {
    small logs --no-log-prefix mysql 2>/dev/null |
        tail -n 1 | grep 'raise SECKILL_MYSQL_MEMORY'
}

small_memory() {
    SECKILL_MYSQL_MEMORY=64m small up -d --no-build mysql >>"$log" 2>&1
    await 30 "MySQL with 64 MiB to say what it lacks" small_said
    small down -v -t 1 >>"$log" 2>&1
}

down_and_up() {
    local report committed sales
    committed=$(seckill audit "$sale" --json | field committed_orders)
    sales=$(seckill sale list --json | grep -c '"epoch"')
    compose down -t 30 >>"$log" 2>&1
    bring_up
    audit "$sale"
    report=$(seckill audit "$sale" --json)
    [ "$(field committed_orders <<<"$report")" = "$committed" ] || fail "there were $committed orders before: $report"
    [ "$(seckill sale list --json | grep -c '"epoch"')" = "$sales" ] || fail "there were $sales sales before"
}

# The ids of all containers, also of those that have ended.
containers() {
    compose ps -aq | sort
}

# What `up` says once more, as a user would say it, changes nothing.
up_again() {
    local before
    before=$(containers)
    compose up -d --wait --wait-timeout 180 --scale gateway=2 --scale worker=3 >>"$log" 2>&1
    [ "$(containers)" = "$before" ] || fail "the second up has replaced containers: $(compose ps -a)"
}

# From several gateways behind nginx back to one, which takes the port.
back_to_one() {
    local files=("${alone[@]}")
    compose up -d --wait --wait-timeout 180 --remove-orphans >>"$log" 2>&1
    answers 200 "http://127.0.0.1:$SECKILL_PORT/readyz"
    [ -z "$(docker ps -aq --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.service=nginx)" ] ||
        fail "nginx is still there"
    audit "$sale"
}

# The page comes out of a container that cannot write anything.
report_leaves() {
    compose run --rm -T loadtest run --rate 100 -z 1s --stock 100 --quiet --html - >"$folder/report.html" 2>"$folder/load.err" ||
        fail "the load test: $(cat "$folder/load.err")"
    [[ $(head -c 15 "$folder/report.html") == '<!'[dD][oO][cC]* && $(tail -n 1 "$folder/report.html") == *'</html>'* ]] ||
        fail "the report is no whole page: $(head -c 200 "$folder/report.html")"
}

down_for_good() {
    compose --profile '*' down -v -t 30 >>"$log" 2>&1
    local left kind
    for kind in container volume network; do
        left=$(docker "$kind" ls -q $([ "$kind" = container ] && echo -a) --filter "label=com.docker.compose.project=$project")
        [ -z "$left" ] || fail "down -v has left a $kind: $left"
    done
}

# is_answered STATUS URL: whether what is asked there is answered so.
is_answered() {
    status=$(curl -s -o /dev/null -m 10 -w '%{http_code}' "$2") || true
    [ "$status" = "$1" ]
}

# answers STATUS URL: it must be.
answers() {
    local status
    is_answered "$1" "$2" || fail "$2 is answered with $status, not with $1"
}

files_are_good() {
    docker compose -f docker-compose.yml --profile '*' config -q
    docker compose "${production[@]}" --profile '*' config -q
    docker compose "${scaled_production[@]}" --profile '*' config -q
    compose --profile '*' config -q
}

build() {
    if [ -n "$own_image" ]; then
        echo "   not needed: SECKILL_IMAGE=$SECKILL_IMAGE"
    else
        compose build --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || true)"
    fi
}

docker info >/dev/null 2>&1 || fail "no Docker engine answers (docker info)"
docker compose version >/dev/null 2>&1 || fail "Docker has no compose plugin (docker compose version)"
api=$(docker version --format '{{.Server.APIVersion}}')
if [ "${api#*.}" -ge 44 ]; then
    alone+=(-f deploy/engine-25.yml)
    files+=(-f deploy/engine-25.yml)
    production+=(-f deploy/engine-25.yml)
    scaled_production+=(-f deploy/engine-25.yml)
fi
SECKILL_PORT=$(free_port 18090)
SECKILL_ADMIN_PORT=$(free_port 18190)
PROMETHEUS_PORT=$(free_port 18290)
GRAFANA_PORT=$(free_port 18390)
MYSQL_PORT=$(free_port 18490)
REDIS_PORT=$(free_port 18590)
RABBITMQ_UI_PORT=$(free_port 18690)
export SECKILL_PORT SECKILL_ADMIN_PORT PROMETHEUS_PORT GRAFANA_PORT MYSQL_PORT REDIS_PORT RABBITMQ_UI_PORT
. scripts/compose/hardening.sh
. scripts/compose/outages.sh
. scripts/compose/production.sh
. scripts/compose/profiles.sh

begin=$SECONDS
step "the files are good" files_are_good
step "build" build
step "up with 2 gateways and 3 workers" bring_up
step "up once more" up_again
part "hardening" hardening
part "load" load_alone
part "the report leaves its container" report_leaves
for service in mysql redis rabbitmq gateway worker; do
    part "$service restarted under load" restart_under_load "$service"
done
for service in mysql redis rabbitmq; do
    for fault in killed frozen emptied; do
        part "$service $fault under load" outage "$service" "$fault"
    done
done
part "gateways and workers killed under load" kill_under_load
part "experiments" experiments
part "rights" rights
part "bad input" bad_input
part "profile observability" observability
part "profile debug" debug
part "down and up again" down_and_up
part "back to one gateway" back_to_one
step "down -v" down_for_good
part "without controls: deploy/production.yml" production
part "without controls, 2 gateways and 3 workers" several_in_production
step "down -v" down_for_good
printf '\nall passed in %d s\n' "$((SECONDS - begin))"
