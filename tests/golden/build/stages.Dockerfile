ARG VERSION=1
FROM busybox AS one
RUN first
FROM one AS two
HEALTHCHECK NONE
RUN second
FROM busybox AS unused
RUN never
FROM onbuild AS three
ARG VERSION
COPY --from=one /a /
COPY --from=1 --parents /b/./c /
COPY --from=alpine:3 --link /etc/os-release /x
RUN --mount=type=bind,from=two,source=/y,target=/z,rw --mount=target=ctx --network=none --security=insecure third
ENTRYPOINT ["three"]
