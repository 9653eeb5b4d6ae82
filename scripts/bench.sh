#!/usr/bin/env bash
# Measures what an order costs: how many a second one gateway takes, how long they wait, and the processor time of each, on both
# back ends, beside a bare HTTP handler. Everything is on this machine, so only ratios of one run say something. Nothing else should
# run meanwhile.
#
#   scripts/bench.sh [--rounds N] [--seconds S] [--profile PROFILE] [--json FILE] [--compare FILE]
#                    [--against SECKILL | --commit A B] [CONTENDER...]
#
# Contenders are taken in turn, N times (3) for S seconds (4) each. A contender is WHAT-BACKEND-CONNECTIONS, such as
# accepted-cluster-256; WHAT is accepted, sold-out, replayed, or single (a reserve, a message and a transaction for each order). Beside
# these: bare-CONNECTIONS; direct-BACKEND-CONNECTIONS, straight into the database; half-BACKEND, buyers who come by themselves at half the
# rate that accepted-BACKEND-256 had before it in the same run (5,000 a second without one), with a worker; drain-cluster, what a gateway has queued, written by a worker
# without a limit; inserts-cluster, a bare loop of the same inserts; memory-gateway-BACKEND, the peak memory of a gateway with a sale of
# 1,000,000 units and 10,000 connections; and memory-worker, that of a worker while 1,000,000 orders wait. How the cost of an order grows:
# sales-COUNTxUNITS-BACKEND, so many sales at once of so many units each; and gateways-COUNT-cluster, so many gateways, each with its part
# of 256 connections. Without any, a usual choice.
#
#   --profile PROFILE    Cargo's profile (release); dist is that of the image
#   --against SECKILL    another build of the program, measured in turn with this one
#   --commit A B         builds two commits, and measures A in turn with B
#   --json FILE          the medians, also as JSON
#   --compare FILE       the JSON of an earlier run: the last column is this run divided by that one
#
# Needs wrk (Debian: apt-get install wrk). Servers are started as the tests start theirs; those in SECKILL_REDIS_URL, SECKILL_AMQP_URL
# and SECKILL_MYSQL_URL are used instead, which should be empty.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "bench: $1; usage: scripts/bench.sh [--rounds N] [--seconds S] [--profile PROFILE] [--json FILE] [--compare FILE]" \
        "[--against SECKILL | --commit A B] [CONTENDER...]" >&2
    exit 2
}

rounds=3 seconds=4 profile=release json='' against='' compare='' commits=() contenders=()
while [ $# -gt 0 ]; do
    case $1 in
        --commit)
            [ $# -ge 3 ] || usage "--commit needs two commits"
            commits=("$2" "$3")
            shift 2
            ;;
        --rounds | --seconds | --profile | --json | --against | --compare)
            [ $# -ge 2 ] || usage "$1 needs a value"
            declare "${1#--}=$2"
            shift
            ;;
        bare-*[0-9] | accepted-*-*[0-9] | sold-out-*-*[0-9] | replayed-*-*[0-9] | single-*-*[0-9] | direct-*-*[0-9] | \
            sales-*[0-9]x[0-9]*-embedded | sales-*[0-9]x[0-9]*-cluster | gateways-*[0-9]-cluster | \
            half-embedded | half-cluster | drain-cluster | inserts-cluster | memory-gateway-embedded | memory-gateway-cluster | memory-worker)
            contenders+=("$1")
            ;;
        *) usage "unknown argument $1" ;;
    esac
    shift
done
for number in "$rounds" "$seconds"; do
    case $number in '' | *[!0-9]* | 0*) usage "$number is no number of rounds or seconds" ;; esac
done
[ -z "$compare" ] || [ -r "$compare" ] || usage "cannot read $compare"
[ -z "$against" ] || [ -x "$against" ] || usage "cannot run $against"
[ -z "$against" ] || [ ${#commits[@]} -eq 0 ] || usage "--against and --commit do not go together"
for commit in "${commits[@]}"; do
    git rev-parse --quiet --verify "$commit^{commit}" >/dev/null || usage "$commit is no commit"
done
if [ ${#contenders[@]} -eq 0 ]; then
    contenders=(
        bare-64 accepted-embedded-64 accepted-cluster-64 bare-256 accepted-embedded-256 accepted-cluster-256 accepted-embedded-1024
        sold-out-embedded-64 sold-out-cluster-64 sold-out-embedded-256 sold-out-cluster-256 replayed-cluster-256
        half-embedded half-cluster single-cluster-256 direct-cluster-256 drain-cluster inserts-cluster memory-gateway-cluster memory-worker
    )
fi
command -v wrk >/dev/null || { echo "bench: wrk is missing; on Debian: apt-get install wrk" >&2; exit 1; }

folder=$(mktemp -d)
running=()

stop() {
    local pid
    for pid in "${running[@]}"; do
        kill -9 "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
    done
    running=()
}

clean_up() {
    stop
    for commit in "${commits[@]}"; do
        [ ! -d "$folder/$commit" ] || git worktree remove --force "$folder/$commit"
    done
    [ -z "${servers:-}" ] || { exec 9>&-; wait "$servers" 2>/dev/null || true; }
    rm -rf "$folder"
}
trap clean_up EXIT

# build ARGUMENTS...
build() {
    cargo build --profile "$profile" --locked --quiet "$@"
}

# build_commit COMMIT: the program as it was then, and where it is.
build_commit() {
    git worktree add --quiet --detach "$folder/$1" "$1" >&2
    (cd "$folder/$1" && CARGO_TARGET_DIR=$built/commits cargo build --profile "$profile" --locked --quiet -p seckill) >&2
    cp "$built/commits/$place/seckill" "$folder/seckill-$1"
    echo "$folder/seckill-$1"
}

echo "bench: building" >&2
place=$profile
[ "$profile" != dev ] || place=debug
built=$(realpath -m "${CARGO_TARGET_DIR:-target}")
target=$built/$place
# All of it in one go: packages by themselves would compile their dependencies anew, with other features.
build --workspace --bins --example bare_handler --example inserts --example servers --features seckill-testkit/servers
ours=$target/seckill
if [ ${#commits[@]} -gt 0 ]; then
    ours=$(build_commit "${commits[0]}")
    against=$(build_commit "${commits[1]}")
fi

export SECKILL_JWT_SECRET='the secret of a benchmark, 32 bytes or more' SECKILL_ADMIN_TOKEN='the admin of a benchmark'
export SECKILL_LOG=warn ANSWERS=off
"$ours" token --users 500000 >"$folder/tokens"
head -n 2000 "$folder/tokens" >"$folder/few"

on_cluster=$([[ "${contenders[*]}" == *cluster* || "${contenders[*]}" == *memory-worker* ]] && echo yes || true)
if [[ -n $on_cluster && -z "${SECKILL_MYSQL_URL:-}" ]]; then
    mkfifo "$folder/hold" "$folder/said"
    "$target/examples/servers" <"$folder/hold" >"$folder/said" 2>"$folder/servers.log" &
    servers=$!
    exec 9>"$folder/hold"
    while read -r line && export "${line?}" && [[ $line != SECKILL_MYSQL_URL=* ]]; do :; done <"$folder/said"
    [ -n "${SECKILL_MYSQL_URL:-}" ] || { cat "$folder/servers.log" >&2; exit 1; }
fi
if [ -n "$on_cluster" ]; then
    SECKILL_BACKEND=cluster "$ours" migrate >"$folder/migrate.log" 2>&1 || { cat "$folder/migrate.log" >&2; exit 1; }
fi

port=18480

# serve PROGRAM ARGUMENTS...: on a port of its own, until it is ready; its process is the last of $running.
serve() {
    local tries
    port=$((port + 1))
    url=http://127.0.0.1:$port
    "$@" >"$folder/serve.log" 2>&1 &
    running+=("$!")
    for tries in $(seq 200); do
        curl -sf -o /dev/null "$url/readyz" && return
        sleep 0.1
    done
    echo "bench: $* did not come up: $(tail -n 3 "$folder/serve.log")" >&2
    exit 1
}

# gateway PROGRAM BACKEND ARGUMENTS...
gateway() {
    local program=$1 backend=$2 place=()
    shift 2
    [ "$backend" = cluster ] || place=(--data-dir "$folder/data-$port" --drain-rate 1)
    serve "$program" gateway --backend "$backend" --listen "127.0.0.1:$((port + 1))" "${place[@]}" "$@"
}

sale() {
    "$ours" sale create --server "$url" --name bench --stock "$1" --json | sed -n 's/^ *"id": \([0-9]*\),*$/\1/p' | head -n 1
}

# sales COUNT UNITS: opens so many, and prints their ids with commas between.
sales() {
    local begins ends
    begins=$(date -u -d '-1 minute' +%FT%TZ) ends=$(date -u -d '+1 day' +%FT%TZ)
    curl -sf -H "Authorization: Bearer $SECKILL_ADMIN_TOKEN" -H 'Content-Type: application/json' \
        -d "{\"name\": \"bench\", \"stock\": $2, \"starts_at\": \"$begins\", \"ends_at\": \"$ends\"}" \
        "$url/api/v1/sales?n=[1-$1]" | grep -o '"id": *[0-9]*' | grep -o '[0-9]*' | paste -sd,
}

# Hundredths of a second of processor time: of the gateways, Redis, RabbitMQ and MySQL, in this order. Of servers that somebody else has started
# nothing is known.
ticks() {
    local pid tree=' ' all=(0 0 0 0) of
    for pid in "${running[@]}"; do all[0]=$((all[0] + $(ticks_of "$pid"))); done
    if [ -n "${servers:-}" ]; then
        tree=" $servers "
        while read -r pid parent name; do
            [[ $tree == *" $parent "* ]] || continue
            tree+="$pid "
            case $name in
                redis-server) of=1 ;;
                beam.smp) of=2 ;;
                mysqld | mariadbd) of=3 ;;
                *) continue ;;
            esac
            all[of]=$((all[of] + $(ticks_of "$pid")))
        done < <(ps -eo pid=,ppid=,comm= --sort=pid)
    fi
    echo "${all[@]}"
}

ticks_of() {
    awk '{ print $14 + $15 }' "/proc/$1/stat"
}

# fire CONNECTIONS SALE TOKENS: prints requests, a second, p50 and p99 in milliseconds, refusals.
fire() {
    wrk -t1 "-c$1" "-d${seconds}s" --latency -s loadtest/wrk/orders.lua "$url" -- "$3" "$2" 1 |
        awk 'function ms(t) { return t ~ /us$/ ? t / 1000 : t ~ /ms$/ ? t + 0 : t * 1000 }
            $1 == "50%" { p50 = ms($2) } $1 == "99%" { p99 = ms($2) } / requests in / { n = $1 }
            /^Requests\/sec/ { rate = $2 } /^ *Non-2xx/ { refused = $NF } /Socket errors/ { print > "/dev/stderr" }
            END { print n, rate, p50, p99, refused + 0 }'
}

# record NAME WANTED CONNECTIONS SALE TOKENS: fires, checks that all answers are of the wanted kind, and notes the result.
record() {
    local before after answers
    before=$(ticks)
    answers=$(fire "$3" "$4" "$5")
    after=$(ticks)
    conclude "$1" "$2" "$before" "$after" "$answers"
}

# conclude NAME WANTED TICKS TICKS ANSWERS: notes what one or several lines of `fire` say, and the processor time of each answer.
conclude() {
    local name=$1 wanted=$2 n refused bad
    read -r n refused < <(awk '{ n += $1; refused += $5 } END { print n, refused }' <<<"$5")
    case $wanted in accepted) bad=$refused ;; refused) bad=$((n - refused)) ;; esac
    # Before the first one of a sale is told to all lanes, a few are answered by the gate.
    if [ "$((bad * 100))" -gt "$n" ]; then
        echo "bench: $name: $bad of $n answers are not what is measured; see docs/performance.md" >&2
    fi
    awk -v name="$name" -v before="$3" -v after="$4" '
        { n += $1; rate += $2; if ($3 > p50) p50 = $3; if ($4 > p99) p99 = $4 }
        END {
            split(before, b, " "); split(after, a, " ")
            printf "%s\t%.0f\t%.1f\t%.1f", name, rate, p50, p99
            for (i = 1; i <= 4; i++) printf "\t%.1f", (a[i] - b[i]) * 10000 / n
            print ""
        }' <<<"$5" | tee -a "$folder/results" >&2
}

# measure CONTENDER NAME PROGRAM
measure() {
    # WHAT-BACKEND-CONNECTIONS
    local connections=${1##*-} what=${1%-*} backend
    backend=${what##*-}
    case $1 in
        bare-*)
            serve "$target/examples/bare_handler" "127.0.0.1:$((port + 1))"
            record "$2" accepted "$connections" 1 "$folder/tokens"
            ;;
        accepted-*)
            gateway "$3" "$backend"
            record "$2" accepted "$connections" "$(sale 4000000)" "$folder/tokens"
            ;;
        single-*)
            gateway "$3" "$backend" --intake-batch 1
            record "$2" accepted "$connections" "$(sale 4000000)" "$folder/tokens"
            ;;
        direct-*)
            gateway "$3" "$backend" --mode direct
            record "$2" accepted "$connections" "$(sale 4000000)" "$folder/tokens"
            ;;
        replayed-*)
            # So few buyers would be over their own limit.
            gateway "$3" "$backend" --order-rate-limit 0
            local id
            id=$(sale 4000000)
            seconds=1 fire "$connections" "$id" "$folder/few" >/dev/null
            record "$2" accepted "$connections" "$id" "$folder/few"
            ;;
        sold-out-*)
            gateway "$3" "$backend"
            local id
            id=$(sale 1)
            seconds=1 fire 8 "$id" "$folder/tokens" >/dev/null
            record "$2" refused "$connections" "$id" "$folder/tokens"
            ;;
        sales-*)
            # sales-COUNTxUNITS-BACKEND
            what=${what#sales-}
            gateway "$3" "${1##*-}"
            record "$2" accepted 256 "$(sales "${what%x*}" "${what#*x}")" "$folder/tokens"
            ;;
        gateways-*) gateways "$2" "$3" "${what#gateways-}" ;;
        half-*) half "$2" "$3" "${1#half-}" ;;
        drain-cluster) drain "$2" "$3" ;;
        inserts-cluster) note "$2" "$("$target/examples/inserts" 200000)" ;;
        memory-gateway-*)
            gateway "$3" "${1#memory-gateway-}"
            fire 10000 "$(sale 1000000)" "$folder/tokens" >/dev/null
            note_memory "$2" "${running[-1]}"
            ;;
        memory-worker) memory_of_worker "$2" "$3" ;;
    esac
    stop
}

# gateways NAME PROGRAM COUNT
gateways() {
    local urls=() number id before after shooters=()
    for number in $(seq "$3"); do
        gateway "$2" cluster
        urls+=("$url")
    done
    id=$(sale 4000000)
    split -n "l/$3" --numeric-suffixes=1 -a 1 "$folder/tokens" "$folder/tokens-"
    before=$(ticks)
    for number in $(seq "$3"); do
        url=${urls[number - 1]} fire "$((256 / $3))" "$id" "$folder/tokens-$number" >"$folder/fired-$number" &
        shooters+=("$!")
    done
    wait "${shooters[@]}"
    after=$(ticks)
    conclude "$1" accepted "$before" "$after" "$(cat "$folder"/fired-[1-9])"
    rm "$folder"/fired-[1-9]
}

# note NAME RATE [P50 P99]: a result that wrk has not measured.
note() {
    printf '%s\t%s\t%s\t%s\t0\t0\t0\t0\n' "$1" "$2" "${3:-0}" "${4:-0}" | tee -a "$folder/results" >&2
}

# note_memory NAME PID: the most that a process has had, in MiB.
note_memory() {
    awk -v name="$1" '$1 == "VmHWM:" { printf "%s\t%.0f\n", name, $2 / 1024 }' "/proc/$2/status" | tee -a "$folder/memory" >&2
}

# worker PROGRAM DRAIN_RATE: on the cluster.
worker() {
    port=$((port + 1))
    worker_url=http://127.0.0.1:$port
    "$1" worker --backend cluster --listen "127.0.0.1:$port" --drain-rate "$2" >"$folder/worker.log" 2>&1 &
    running+=("$!")
}

# Orders that the worker has committed.
committed() {
    { curl -s "$worker_url/metrics" || true; } | awk '/^seckill_orders_committed_total/ { n += $2 } END { printf "%.0f", n }'
}

# Orders that a gateway has accepted.
accepted() {
    curl -sf "$url/metrics" | awk '/^seckill_claims_total.*outcome="accepted"/ { print $2 }'
}

# Until nothing of any sale waits.
drained() {
    until curl -sf "$url/metrics" | awk '/^seckill_queue_orders/ { waiting += $2 } END { exit waiting > 0 }'; do sleep 0.5; done
}

# Buyers who come at half the peak rate, whether they are answered or not.
half() {
    local rate program=$2 name=$1
    rate=$(awk -F '\t' -v peak="accepted-$3-256" '$1 == peak { rate = int($2 / 2) } END { print rate ? rate : 5000 }' "$folder/results" 2>/dev/null || echo 5000)
    if [ "$3" = cluster ]; then
        gateway "$program" cluster
        worker "$program" 2000
    else
        serve "$program" gateway --listen "127.0.0.1:$((port + 1))" --data-dir "$folder/data-$port" --drain-rate 2000
    fi
    "$target/loadtest" run --target "$url" --jwt-secret "$SECKILL_JWT_SECRET" --rate "$rate" --duration "${seconds}s" --stock 4000000 --quiet --no-verify \
        >"$folder/half" 2>&1 || { cat "$folder/half" >&2; exit 1; }
    # The first line of accepted orders in the table of latencies counts from the intended start.
    awk -v name="$name, at $rate/s" '
        /latency, ms/ { latencies = 1 }
        latencies && / accepted / && !done { gsub(/[^0-9. a-z]/, " "); printf "%s: p50 %s ms, p99 %s ms, p99.9 %s ms\n", name, $2, $5, $6; done = 1 }' \
        "$folder/half" | tee -a "$folder/half-results" >&2
}

# Orders a second that one worker writes, of those that wait: from the first time that it has committed some, since it has to start and
# connect first, to the last time that some are left. Asked four times a second, since to ask takes processor time, too.
drain() {
    local queued id done=0 now first=() last=()
    gateway "$2" cluster
    empty_queue "$2"
    id=$(sale 4000000)
    seconds=10 fire 256 "$id" "$folder/tokens" >/dev/null
    queued=$(accepted)
    worker "$2" unlimited
    while [ "$done" -lt "$queued" ]; do
        kill -0 "${running[-1]}" 2>/dev/null || { echo "bench: the worker has ended: $(tail -n 3 "$folder/worker.log")" >&2; exit 1; }
        done=$(committed) now=$(date +%s%N)
        if [ "$done" -gt 0 ] && [ "$done" -lt "$queued" ]; then
            [ ${#first[@]} -gt 0 ] || first=("$done" "$now")
            last=("$done" "$now")
        fi
        sleep 0.25
    done
    if [ "${last[1]:-0}" -le "${first[1]:-0}" ]; then
        echo "bench: $1: the worker was done before two looks; measure for longer" >&2
        return
    fi
    note "$1" "$(awk -v n="$((last[0] - first[0]))" -v ns="$((last[1] - first[1]))" 'BEGIN { printf "%.0f", n * 1e9 / ns }')"
}

# empty_queue PROGRAM: of what earlier contenders have left there.
empty_queue() {
    worker "$1" unlimited
    sleep 5
    drained
    kill "${running[-1]}" && wait "${running[-1]}" || true
    unset 'running[-1]'
}

memory_of_worker() {
    gateway "$2" cluster
    while [ "$(accepted)" -lt 1000000 ] 2>/dev/null || [ -z "$(accepted)" ]; do
        seconds=10 fire 256 "$(sale 4000000)" "$folder/tokens" >/dev/null
    done
    worker "$2" 1000
    sleep 10
    note_memory "$1" "${running[-1]}"
    kill "${running[-1]}" && wait "${running[-1]}" || true
    unset 'running[-1]'
    # Not left to the contenders of the next round.
    empty_queue "$2"
}

for round in $(seq "$rounds"); do
    for contender in "${contenders[@]}"; do
        measure "$contender" "$contender" "$ours"
        if [ -n "$against" ] && [[ $contender != bare-* ]]; then
            measure "$contender" "$contender (against)" "$against"
        fi
    done
done

# The table; the bare handler of as many connections is 1.
awk -F '\t' -v json="$json" -v compare="$compare" '
    function median(list, n,   i, j, t, a) {
        split(list, a, " ")
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (a[j] + 0 < a[i] + 0) { t = a[i]; a[i] = a[j]; a[j] = t }
        least = a[1]; most = a[n]
        return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
    }
    function connections(name) { sub(/ .*/, "", name); sub(/.*-/, "", name); return name }
    BEGIN {
        while (compare != "" && (getline line < compare) > 0)
            if (match(line, /"[^"]*": \{"rate": [0-9.]+/)) {
                split(substr(line, RSTART + 1, RLENGTH), part, "\"")
                rate = substr(line, RSTART, RLENGTH); sub(/.*: /, "", rate); earlier[part[1]] = rate
            }
    }
    !($1 in n) { order[++names] = $1 }
    { n[$1]++; rates[$1] = rates[$1] " " $2; p50[$1] = p50[$1] " " $3; p99[$1] = p99[$1] " " $4; for (i = 1; i <= 4; i++) cpu[i, $1] = cpu[i, $1] " " $(4 + i) }
    function cpus(name,   i, text) {
        for (i = 1; i <= 4; i++) text = text (i == 1 ? "" : ", ") median(cpu[i, name], n[name])
        return text
    }
    END {
        print "| contender | a second (least, most) | of bare | p50, ms | p99, ms | processor time each, us: gateway, Redis, RabbitMQ, MySQL |" (compare == "" ? "" : " of earlier |")
        print "| --- | ---: | ---: | ---: | ---: | ---: |" (compare == "" ? "" : " ---: |")
        for (i = 1; i <= names; i++) {
            name = order[i]; rate = median(rates[name], n[name]); low = least; high = most
            bare = "bare-" connections(name); of = ""
            if (bare in n) of = sprintf("%.2f", rate / median(rates[bare], n[bare]))
            printf "| %s | %d (%d, %d) | %s | %s | %s | %s |", name, rate, low, high, of, median(p50[name], n[name]), median(p99[name], n[name]), cpus(name)
            print compare == "" ? "" : sprintf(" %s |", name in earlier ? sprintf("%.2f", rate / earlier[name]) : "")
            if (json != "") printf "%s  \"%s\": {\"rate\": %d, \"least\": %d, \"most\": %d, \"p50_ms\": %s, \"p99_ms\": %s, \"cpu_us\": %s}", i == 1 ? "{\n" : ",\n", name, rate, low, high, median(p50[name], n[name]), median(p99[name], n[name]), median(cpu[1, name], n[name]) > json
        }
        if (json != "") print "\n}" > json
    }' "$folder/results"

if [ -s "$folder/half-results" ]; then
    printf '\nLatency of accepted orders at half the peak, from the intended start (open model):\n\n'
    sed 's/^/- /' "$folder/half-results"
fi
if [ -s "$folder/memory" ]; then
    printf '\n| the most memory | MiB |\n| --- | ---: |\n'
    awk -F '\t' '{ printf "| %s | %s |\n", $1, $2 }' "$folder/memory"
fi
