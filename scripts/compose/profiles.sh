# Sourced by scripts/compose-test.sh: what only some people start, beside a stack that runs.

targets_are_up() {
    local seen
    seen=$(curl -s -m 5 "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/targets")
    # Both gateways and all workers.
    [ "$(grep -o '"health":"up"' <<<"$seen" | wc -l)" -eq 5 ] && [[ $seen != *'"health":"down"'* ]]
}

alerts_are_loaded() {
    curl -s -m 5 "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/rules" | grep -q '"name":"Oversold"'
}

# greets PORT TEXT PATTERN: what a server answers that is reached through the profile debug.
greets() {
    local said
    said=$(exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "$2" >&3 && timeout 5 head -c 20 <&3 | tr -d '\0') 2>/dev/null || true
    [[ $said =~ $3 ]]
}

# started SERVICE...: in the profiles, and their containers are as all others.
started() {
    local id
    compose --profile '*' up -d --no-build --no-deps "$@" >>"$log" 2>&1
    for id in $(compose --profile '*' ps -aq "$@"); do
        check_container "$id"
    done
}

observability() {
    started prometheus
    await 60 "Prometheus to see two gateways and three workers" targets_are_up
    await 30 "Prometheus to know the alerts" alerts_are_loaded
    if docker image inspect "${GRAFANA_IMAGE:-grafana/grafana:12.2.0}" >/dev/null 2>&1; then
        started grafana
        await 60 "Grafana" is_answered 200 "http://127.0.0.1:$GRAFANA_PORT/api/health"
    else
        echo "   Grafana's image is not here: left out"
    fi
}

debug() {
    # nginx as Debian has it needs a package for this; the public image does not.
    if ! compose --profile debug run --rm -T --no-deps --entrypoint nginx debug -t -c /etc/seckill/debug.conf >>"$log" 2>&1; then
        echo "   this nginx has no module stream: left out"
        return
    fi
    started debug
    await 30 "Redis through debug" greets "$REDIS_PORT" 'PING\r\n' 'NOAUTH|PONG'
    await 30 "RabbitMQ's page through debug" is_answered 200 "http://127.0.0.1:$RABBITMQ_UI_PORT/"
    await 30 "MySQL through debug" greets "$MYSQL_PORT" '' '[0-9]\.[0-9]'
}
