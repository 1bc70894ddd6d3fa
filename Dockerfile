# syntax=docker/dockerfile:1
#
# Two images, by --target:
#
#   stepwell  (the default) the worker and the starter of this repository: two static binaries, no shell, not root
#   minio     an S3 server for development, built from the version that tools/minio pins, which is the one the tests run
#             against. MinIO is AGPL-licensed and no longer ships community binaries or images (docker-compose.yml says
#             more); it is a separate program here, never linked into Stepwell.

FROM golang:1.26.8-bookworm AS go
ENV CGO_ENABLED=0 GOFLAGS=-trimpath
WORKDIR /src

FROM go AS build
# Modules first: a change of sources alone does not download them again.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -ldflags='-s -w' -o /image/usr/local/bin/ ./worker ./starter
# What a static binary still wants from a system: certificates of public authorities, names of the user, time zones,
# and a directory for temporary files.
RUN mkdir -p /image/etc/ssl/certs /image/home/stepwell && \
    cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ && \
    cp /usr/local/go/lib/time/zoneinfo.zip /image/etc/zoneinfo.zip && \
    echo 'stepwell:x:65532:65532::/home/stepwell:/sbin/nologin' >/image/etc/passwd && \
    echo 'stepwell:x:65532:' >/image/etc/group && \
    chown 65532:65532 /image/home/stepwell && \
    install -d -m 1777 /image/tmp

FROM go AS build-minio
COPY tools/minio/go.mod tools/minio/go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -tags kqueue -ldflags='-s -w' -o /minio github.com/minio/minio

FROM alpine:3.23.3 AS minio
# curl: the health check, and creating the bucket.
RUN apk add --no-cache ca-certificates curl && \
    adduser -D -u 65532 minio && \
    install -d -o minio -g minio /data
COPY --from=build-minio /minio /usr/local/bin/minio
USER minio
VOLUME /data
EXPOSE 9000 9001
ENTRYPOINT ["minio"]
CMD ["server", "/data", "--console-address", ":9001"]

FROM scratch AS stepwell
COPY --from=build /image/ /
ENV ZONEINFO=/etc/zoneinfo.zip HOME=/home/stepwell PATH=/usr/local/bin
# The state directory of the starter, when it is used without a server, is made below this one.
WORKDIR /home/stepwell
USER 65532:65532
# Exec form: signals reach the worker itself, which drains on SIGTERM.
CMD ["worker"]
