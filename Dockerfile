# Weir in a container: built with its pages from this checkout, run by a user without rights.
#
#   docker build -t weir .
#   docker run -p 1935:1935 -p 8080:8080 -p 8081:8081 -e WEIR_AUTH_PUBLISH_KEYS=stage=0f3c… weir
#
# A config.toml is read from /var/lib/weir, what must outlive a restart is in /var/lib/weir/data.

FROM rust:1.95-bookworm AS build
# The pages need Node 18 or later, which is what Debian 12 has.
RUN apt-get update \
    && apt-get install -y --no-install-recommends nodejs npm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN scripts/build-ui.sh && cargo build --release --locked -p weir-server

FROM debian:bookworm-slim
# curl asks for the health below; ca-certificates are whom Weir trusts at rtmps:// servers.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --home-dir /var/lib/weir --create-home weir \
    && install --directory --owner=weir --group=weir /var/lib/weir/data
COPY --from=build /src/target/release/weir /usr/local/bin/weir
USER weir
WORKDIR /var/lib/weir
VOLUME /var/lib/weir/data
# RTMP, HTTP, and HTTP where HLS players expect it.
EXPOSE 1935 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD curl --fail --silent --show-error --output /dev/null "http://127.0.0.1:${PORT:-8080}/health/live"
ENTRYPOINT ["weir"]
CMD ["serve"]
