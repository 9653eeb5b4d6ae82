# Runs one server on behalf of one test process and outlives it by no more than the clean-up.
#
#   bash -c SCRIPT supervisor FOLDER EPMD_PORT COUNT PREPARE... SERVER...
#
# FOLDER belongs to the server and is removed in the end; the server's output goes to FOLDER/log. The first COUNT words
# after COUNT are a command that is run once, before the first start; the words after them are the server.
#
# Stdin carries commands, one word a line, each answered by one line on stdout once it is carried out. The end of stdin
# means that the test process is gone, in whatever way: the kernel closes the pipe for it even after kill -9.

folder=$1 epmd_port=$2 count=$3
shift 3
prepare=("${@:1:count}")
server=("${@:count+1}")
pid=

# Children get a process group each, so that one signal reaches the whole server and never this script.
set -m
# A closed terminal or Ctrl-C must not end the clean-up. Caught, not ignored: what is ignored stays so in the children.
trap : HUP INT TERM

start() {
    {
        if [ "$count" -gt 0 ] && [ ! -e "$folder/prepared" ]; then
            "${prepare[@]}" && touch "$folder/prepared" || exit
        fi
        # In place of this subshell, so that the server is our own child: we reap it, and see at once that it is gone.
        exec "${server[@]}"
    } >>"$folder/log" 2>&1 </dev/null &
    pid=$!
}

signal() {
    [ -n "$pid" ] && kill -"$1" -- "-$pid" 2>/dev/null
}

running() {
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

# Waits until the server is gone, $1 tenths of a second at the most.
await_end() {
    for _ in $(seq "$1"); do
        running || return
        sleep 0.1
    done
}

stop() {
    signal TERM
    await_end 200
    destroy
}

# Also takes what a server has left of its group.
destroy() {
    signal KILL
    await_end 100
}

check() {
    if running; then
        echo running
    else
        wait "$pid"
        echo "ended with status $?"
    fi
}

# RabbitMQ starts its port mapper, epmd, as a daemon of its own. That one ends on a request that it grants once its
# last node is gone: a length of 1 and the letter k.
stop_epmd() {
    [ "$epmd_port" -gt 0 ] || return
    for _ in $(seq 50); do
        # Port closed: no mapper, or none any more.
        (exec 3<>"/dev/tcp/127.0.0.1/$epmd_port" && printf '\0\1k' >&3 && cat <&3 >/dev/null) || return
        sleep 0.1
    done
}

while :; do
    if read -r command; then
        case $command in
        check)
            check
            continue
            ;;
        start) start ;;
        stop) stop ;;
        kill) destroy ;;
        freeze) signal STOP ;;
        thaw) signal CONT ;;
        esac
        echo "$command"
    elif [ $? -le 128 ]; then
        break # The end of stdin; above 128 it was one of the trapped signals.
    fi
done

destroy
stop_epmd
# Where the data was moved to a small disk.
if mountpoint -q "$folder/data"; then
    # Mounting needed root, or sudo.
    for how in umount "sudo -n umount" "umount -l" "sudo -n umount -l"; do
        $how "$folder/data" 2>/dev/null && break
    done
fi
# Once more where something dying was still writing.
rm -rf "$folder" || { sleep 1 && rm -rf "$folder"; }
