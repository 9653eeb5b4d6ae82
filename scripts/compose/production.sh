# Sourced by scripts/compose-test.sh: the stack of deploy/production.yml, without the demonstration's controls.

# What is for buyers is answered on their port, and nothing else.
only_for_buyers() {
    local buyers=http://127.0.0.1:$SECKILL_PORT path
    for path in /livez /readyz /shop /api/v1/sales; do
        answers 200 "$buyers$path"
    done
    for path in / /labs /metrics /api/v1/live /api/v1/control /api/v1/outbox /api/v1/parked; do
        answers 404 "$buyers$path"
    done
}

# Without the demonstration's controls: buyers reach what is for buyers, and everything else has a listener of its own.
production() {
    local admins=http://127.0.0.1:$SECKILL_ADMIN_PORT path
    files=("${production[@]}")
    compose up -d --no-build --wait --wait-timeout 180 gateway worker >>"$log" 2>&1
    only_for_buyers
    for path in / /metrics /readyz; do
        answers 200 "$admins$path"
    done
    answers 404 "$admins/api/v1/control"
    answers 401 "$admins/api/v1/outbox"
    seckill sale create --name first --stock 10 >/dev/null
    load_alone
}

# The same with several gateways: nginx takes the buyers' port, and nothing is published for admins.
several_in_production() {
    files=("${scaled_production[@]}")
    bring_up
    only_for_buyers
    answers 000 "http://127.0.0.1:$SECKILL_ADMIN_PORT/livez"
    audit "$sale"
}
