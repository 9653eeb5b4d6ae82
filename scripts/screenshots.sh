#!/usr/bin/env bash
# Makes the pictures in docs/. Of the load test's report: fires the preset `spike` at a fresh gateway and opens the page that
# comes of it in headless Chromium: docs/report.png (light), docs/report-dark.png and docs/report-phone.png.
#
#   scripts/screenshots.sh                       on the embedded back end
#   scripts/screenshots.sh --backend cluster     on the servers in SECKILL_REDIS_URL, SECKILL_AMQP_URL and SECKILL_MYSQL_URL,
#                                                which should be empty, with a gateway and a worker
#   scripts/screenshots.sh --dashboard           instead, of the dashboard: docs/dashboard-spike.png (1366 x 768), -drained, -dark and
#                                                -presented (1920 x 1080), and -phone (390 pixels); and of the shop: docs/shop-phone.png
#   scripts/screenshots.sh --moving              instead, a film of the dashboard during a spike: docs/spike.webp, at most 1.5 MB. Needs ffmpeg
#
# LISTEN (127.0.0.1:18080) is where the gateway serves, WORKER_LISTEN (127.0.0.1:18081) where the worker does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    echo "$1; usage: scripts/screenshots.sh [--backend embedded|cluster] [--dashboard|--moving]" >&2
    exit 2
}

backend=embedded dashboard=no moving=no
while [ $# -gt 0 ]; do
    case "$1" in
        --backend) backend=${2:-} && shift 2 || usage "--backend needs a value" ;;
        --dashboard) dashboard=yes && shift ;;
        --moving) moving=yes && shift ;;
        *) usage "unknown argument $1" ;;
    esac
done
case "$backend" in
    embedded | cluster) ;;
    *) usage "there is no back end $backend" ;;
esac

listen=${LISTEN:-127.0.0.1:18080}
worker_listen=${WORKER_LISTEN:-127.0.0.1:18081}
folder=$(mktemp -d)
started=()

clean_up() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    rm -rf "$folder"
}
trap clean_up EXIT

# serve NAME ADDRESS ARGUMENTS... starts a role of seckill and waits until it is ready.
serve() {
    local name=$1 address=$2 tries
    shift 2
    seckill "$name" --listen "$address" "$@" >"$folder/$name.log" 2>&1 &
    started+=("$!")
    for tries in $(seq 150); do
        if ! kill -0 "${started[-1]}" 2>/dev/null; then
            break
        elif seckill healthcheck --server "http://$address" >/dev/null 2>&1; then
            return
        fi
        sleep 0.2
    done
    echo "the $name was not ready after $tries tries; its last words:" >&2
    tail -n 5 "$folder/$name.log" >&2
    exit 1
}

# picture FILE WIDTH HEIGHT [FLAG...] takes a picture of the report's upper part.
picture() {
    local file=$1 width=$2 height=$3
    shift 3
    # A window cannot be as narrow as a phone, so the page is in a frame that can.
    printf '<!doctype html><style>body{margin:0}iframe{border:0;width:%dpx;height:%dpx}</style><iframe src="report.html"></iframe>' \
        "$width" "$height" >"$folder/frame.html"
    "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$folder/profile-$(basename "$file")" \
        --window-size="$width,$height" --virtual-time-budget=10000 --screenshot="$folder/picture.png" "$@" \
        "file://$folder/frame.html" >"$folder/chromium.log" 2>&1
    if [ ! -s "$folder/picture.png" ]; then
        echo "Chromium has made no picture; its last words:" >&2
        tail -n 5 "$folder/chromium.log" >&2
        exit 1
    fi
    mv "$folder/picture.png" "$file"
    echo "$file"
}

# film FOLDER FILE makes a film of the pictures in a folder: the best one that is not too large to look at.
film() {
    local folder=$1 file=$2 quality most=1500000
    for quality in 80 65 50 35 20; do
        ffmpeg -loglevel error -y -f concat -i "$folder/frames.txt" -vf fps=5,scale=960:-2:flags=lanczos \
            -c:v libwebp_anim -quality "$quality" -compression_level 6 -loop 0 "$file"
        if [ "$(wc -c <"$file")" -le "$most" ]; then
            echo "$file: $(wc -c <"$file") bytes, quality $quality"
            return
        fi
    done
    echo "$file has $(wc -c <"$file") bytes, more than $most; film less, or fewer pictures a second" >&2
    exit 1
}

if [ "$moving" = yes ] && ! command -v ffmpeg >/dev/null; then
    echo "no ffmpeg on the PATH; on Debian: apt-get install ffmpeg" >&2
    exit 1
fi
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$chromium" ]; then
    echo "no chromium on the PATH; run scripts/setup.sh" >&2
    exit 1
fi

# One after the other, as users build them: together, shared dependencies would be compiled once more.
cargo build --release --locked -p seckill
if [ "$moving" = yes ]; then
    cargo build --locked -p seckill-testkit --features browser --example moving_picture
    export SECKILL_DEMO=1
elif [ "$dashboard" = yes ]; then
    cargo build --locked -p seckill-testkit --features browser --example pictures --example shop_pictures
    export SECKILL_DEMO=1
else
    cargo build --release --locked -p loadtest
fi
PATH="$PWD/target/release:$PATH"
export SECKILL_BACKEND=$backend SECKILL_DATA_DIR=$folder/data
secret=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export SECKILL_JWT_SECRET=$secret SECKILL_ADMIN_TOKEN=$secret

if [ "$backend" = cluster ]; then
    seckill migrate
    serve gateway "$listen"
    serve worker "$worker_listen" --drain-rate 2000
else
    serve gateway "$listen" --drain-rate 2000
fi

if [ "$moving" = yes ]; then
    mkdir "$folder/frames"
    target/debug/examples/moving_picture "http://$listen" "$folder/frames"
    film "$folder/frames" docs/spike.webp
    exit
fi
if [ "$dashboard" = yes ]; then
    # First: the shop shows the newest sale.
    target/debug/examples/shop_pictures "http://$listen" docs
    target/debug/examples/pictures "http://$listen" docs
    exit
fi
loadtest run spike --target "http://$listen" --html "$folder/report.html"

picture docs/report.png 1280 1420
picture docs/report-dark.png 1280 1420 --blink-settings=preferredColorScheme=0
picture docs/report-phone.png 390 1480
