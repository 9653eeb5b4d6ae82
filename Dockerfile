# One image with both programs, `seckill` and `loadtest`. Needs BuildKit (the default since Docker Engine 23).

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The downloads and target/ are kept between builds, so a change of the code compiles no dependency again. Cargo goes by the
# time of a file, and what is in target/ may be younger than a file that has just come from another checkout: so our own
# files are made new, and our own crates are compiled each time.
# In two calls: together, shared dependencies would be compiled once more with the features of both.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target,sharing=locked \
    find crates loadtest migrations -type f -exec touch {} + \
    && export CARGO_TARGET_DIR=/target/$(uname -m) \
    && cargo build --profile dist --locked -p seckill \
    && cargo build --profile dist --locked -p loadtest \
    && install -D -t /out "$CARGO_TARGET_DIR/dist/seckill" "$CARGO_TARGET_DIR/dist/loadtest"

FROM debian:bookworm-slim
# For servers that are reached by TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# A new volume takes the owner and the rights of the folder that it is first mounted over: these are docker-compose.yml's,
# and /data is for the embedded back end.
RUN install -d -o 10001 -g 10001 /data /volumes/app /volumes/http /volumes/migrate \
        /volumes/mysql /volumes/rabbitmq /volumes/redis \
    && install -d -m 1777 /volumes/redis-data
COPY --from=build /out/ /usr/local/bin/
ENV SECKILL_LISTEN=0.0.0.0:8080 SECKILL_WORKER_LISTEN=0.0.0.0:8081
WORKDIR /data
USER 10001:10001
EXPOSE 8080 8081 8082
ENTRYPOINT ["seckill"]
CMD ["--help"]
