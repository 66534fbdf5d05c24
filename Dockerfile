# Two stages: build with Rust, run with nothing but the binary.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked -p gatehouse

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir /var/lib/gatehouse --create-home gatehouse
COPY --from=build /build/target/release/gatehouse /usr/local/bin/gatehouse
USER gatehouse
WORKDIR /var/lib/gatehouse
VOLUME /var/lib/gatehouse
# 5222 and 5223 clients, 5269 and 5270 servers, 5061 SIP partners (once `listen.sip` is set), 5275 the
# trunk of an edge by itself.
EXPOSE 5061 5222 5223 5269 5270 5275
ENTRYPOINT ["gatehouse"]
CMD ["run"]
