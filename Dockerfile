# One image with both programs, `seckill` and `loadtest`, and with nothing else that can be run: no shell, no package manager.
# Needs BuildKit (the default since Docker Engine 23).

# What decides how dependencies are compiled, and nothing of our own code: each crate with its manifest and an empty source file
# for each of its parts. As long as this is the same, the layer below that compiles the dependencies is taken from the cache.
FROM rust:1.95-bookworm AS manifests
COPY . /all
WORKDIR /src
RUN cp -a /all/.cargo /all/Cargo.toml /all/Cargo.lock . \
    && cd /all && find crates loadtest -name Cargo.toml -exec cp --parents {} /src \; \
    && find crates loadtest -regex '.*/\(src/\(lib\|main\|bin/[^/]*/main\)\|tests/[^/]*\|tests/[^/]*/main\|benches/[^/]*/main\|examples/[^/]*\)\.rs' \
        | while read -r file; do \
        mkdir -p "/src/$(dirname "$file")" && echo 'fn main() {}' >"/src/$file"; \
    done \
    && cp --parents crates/*/build.rs /src

# The dependencies have a layer of their own, so a fresh builder that has a cache of layers (`--cache-from`) compiles only our
# own crates. A builder on one machine keeps what it has compiled in /kept, too: there a changed Cargo.lock compiles only what
# it has changed.
FROM rust:1.95-bookworm AS dependencies
WORKDIR /src
ENV CARGO_TARGET_DIR=/target
COPY --from=manifests /src .
# In two calls: together, shared dependencies would be compiled once more with the features of both.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/kept,sharing=locked \
    kept=/kept/$(uname -m) && mkdir -p "$kept" /target && cp -a "$kept/." /target \
    && cargo build --profile dist --locked -p seckill \
    && cargo build --profile dist --locked -p loadtest \
    && rm -rf "$kept" && cp -a /target "$kept"

FROM dependencies AS build
COPY . .
# The programs say which commit they were built from, where whoever builds says so: there is no git in here.
ARG REVISION=
# Cargo goes by the time of a file, and what was compiled of the empty files may be younger than ours: so ours are made new.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    find crates loadtest migrations -type f -exec touch {} + \
    && export SECKILL_COMMIT="$REVISION" \
    && cargo build --profile dist --locked -p seckill \
    && cargo build --profile dist --locked -p loadtest \
    && install -D -t /out/usr/local/bin "$CARGO_TARGET_DIR/dist/seckill" "$CARGO_TARGET_DIR/dist/loadtest"
# What the programs need to run: the C library, the certificates of TLS servers, where names are looked up, and their user.
RUN ldd /out/usr/local/bin/* | grep -o '/lib[^ ]*' | sort -u | xargs cp -L --parents -t /out \
    && cp --parents /etc/ssl/certs/ca-certificates.crt /out \
    && echo 'hosts: files dns' >/out/etc/nsswitch.conf \
    && echo 'seckill:x:10001:10001::/data:/none' >/out/etc/passwd \
    && echo 'seckill:x:10001:' >/out/etc/group \
    && mkdir -m 1777 /out/tmp \
    && install -d -o 10001 -g 10001 /out/data

# `docker build --target programs --output . .` builds the programs without an installed Rust.
FROM scratch AS programs
COPY --from=build /out/usr/local/bin/ /

FROM scratch
# /data is for the embedded back end, and the bank. A new volume takes the owner of the folder that it is first mounted over.
COPY --from=build /out/ /
ENV PATH=/usr/local/bin SECKILL_LISTEN=0.0.0.0:8080 SECKILL_WORKER_LISTEN=0.0.0.0:8081
WORKDIR /data
USER 10001:10001
EXPOSE 8080 8081 8082
ENTRYPOINT ["seckill"]
CMD ["--help"]
# .github/workflows/release.yml sets these, and adds the address of the source.
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="seckill" \
      org.opencontainers.image.description="A flash-sale system whose peak shaving you can see, measure and trust" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
