# Sourced by scripts/compose-test.sh: what a container of the stack may do, and who reaches whom.

# has WORD LIST: whether the word is in the list.
has() {
    [[ " $2 " == *" $1 "* ]]
}

# container_facts ID: its service, and what it may do, one fact a line.
container_facts() {
    docker inspect "$1" --format '
service={{index .Config.Labels "com.docker.compose.service"}}
dropped={{range .HostConfig.CapDrop}}{{.}} {{end}}
added={{range .HostConfig.CapAdd}}{{.}} {{end}}
security={{range .HostConfig.SecurityOpt}}{{.}} {{end}}
privileged={{.HostConfig.Privileged}}
memory={{.HostConfig.Memory}}
pids={{.HostConfig.PidsLimit}}
user={{.Config.User}}
image={{.Config.Image}}
read_only={{.HostConfig.ReadonlyRootfs}}
published={{range $port, $all := .HostConfig.PortBindings}}{{range $all}}{{.HostIp}} {{end}}{{end}}
networks={{range $name, $net := .NetworkSettings.Networks}}{{$name}} {{end}}'
}

check_container() {
    local line name service='' dropped='' added='' security='' privileged='' memory='' pids='' user='' image='' read_only='' published='' networks=''
    while IFS= read -r line; do
        name=${line%%=*}
        [ -z "$line" ] || printf -v "$name" '%s' "${line#*=}"
    done < <(container_facts "$1")
    has ALL "$dropped" || fail "$service keeps rights of root: dropped are only '$dropped'"
    if [ "$service" = secrets ]; then
        [[ $added =~ ^(CAP_)?DAC_OVERRIDE\ $ ]] || fail "secrets has other rights than DAC_OVERRIDE: '$added'"
        [ "$networks" = "none " ] || fail "secrets is on a network: $networks"
    else
        [ -z "$added" ] || fail "$service has rights of root: '$added'"
        # Prometheus and Grafana run as the user of their images, who is not root in those that are published.
        [[ $service =~ ^(prometheus|grafana)$ ]] || [[ -n $user && ! $user =~ ^(root|0)(:|$) ]] || fail "$service runs as root"
    fi
    [ "$privileged" = false ] || fail "$service is privileged"
    [[ $security == *no-new-privileges* ]] || fail "$service may gain rights: '$security'"
    [ "$memory" -gt 0 ] || fail "$service has no limit of memory"
    [[ $pids =~ ^[1-9] ]] || fail "$service has no limit of processes"
    if [ "$image" = "$SECKILL_IMAGE" ]; then
        [ "$read_only" = true ] || fail "$service can write to its own image"
    fi
    for name in $published; do
        [ "$name" = 127.0.0.1 ] || fail "$service is published on $name, not on the loopback address alone"
    done
    case "$service" in
        mysql | redis | rabbitmq | migrate)
            [ "$networks" = "${project}_data " ] || fail "$service is on '$networks', and should be on data alone" ;;
        bank | seed | loadtest | nginx | prometheus | grafana)
            [ "$networks" = "${project}_edge " ] || fail "$service is on '$networks', and should be on edge alone" ;;
    esac
    echo "   $service: $networks"
}

# reaches NETWORK ADDRESS PORT: whether a container of this network gets a connection within 5 s.
reaches() {
    local id code
    id=$(docker run -d --network "${project}_$1" --entrypoint bash "${REDIS_IMAGE:-redis:8}" -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3")
    code=$(timeout 5 docker wait "$id") || true
    docker rm -f "$id" >/dev/null
    [ "$code" = 0 ]
}

check_networks() {
    local service port address
    [ "$(docker network inspect "${project}_data" --format '{{.Internal}}')" = true ] || fail "the network data has a way out"
    for service in mysql:3306 redis:6379 rabbitmq:5672; do
        port=${service#*:} service=${service%:*}
        address=$(docker inspect "$(compose ps -q "$service")" --format "{{(index .NetworkSettings.Networks \"${project}_data\").IPAddress}}")
        reaches data "$address" "$port" || fail "$service is not reached on its own network; the next check would say nothing"
        ! reaches edge "$address" "$port" || fail "$service is reached from the network edge"
    done
}

check_image() {
    local said label
    if said=$(docker run --rm --entrypoint /bin/sh "$SECKILL_IMAGE" -c true 2>&1); then
        fail "the image has a shell"
    fi
    [[ $said == *"no such file"* ]] || fail "whether the image has a shell is not known: $said"
    for label in title description licenses version; do
        [ -n "$(docker image inspect "$SECKILL_IMAGE" --format "{{index .Config.Labels \"org.opencontainers.image.$label\"}}")" ] ||
            fail "the image has no label $label"
    done
}

hardening() {
    local id
    for id in $(compose --profile '*' ps -aq); do
        check_container "$id"
    done
    check_networks
    check_image
}
