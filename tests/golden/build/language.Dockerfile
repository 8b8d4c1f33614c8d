# syntax=docker/dockerfile:1
# A tour of the instructions.
ARG VERSION=1
ARG BASE=node:20

FROM --platform=$BUILDPLATFORM ${BASE} AS build
ARG VERSION
ARG TARGETARCH
ENV NAME=app \
    # a comment in between
    GREETING="hello $NAME"
ENV OLD style $VERSION
LABEL org.example.version=$VERSION "with space"="a b"
WORKDIR out
WORKDIR ../${NAME}
RUN --mount=type=cache,id=$NAME,target=cache,sharing=locked \
    --mount=type=tmpfs,target=/tmp/x,size=1m \
    make VERSION=$VERSION
RUN ["make", "install"]
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
RUN <<EOT
set -x
echo "$VERSION"
EOT
RUN <<-SCRIPT
	#!/usr/bin/env node
	console.log(1)
	SCRIPT
COPY --chown=node:node --chmod=u=rwX,go=rX --exclude=*.md src pkg*.json ./
COPY ["a b", "c d/"]
COPY <<conf <<'raw' /etc/app/
version=$VERSION \$kept
conf
version=$VERSION
raw
ADD --checksum=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa https://example.org/x.tgz /opt
ADD --unpack=false local.tar .
USER ${NAME}:staff
VOLUME /data /logs
VOLUME ["/more data"]
EXPOSE 80 8000-8002/tcp 53/UDP
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=1m30s --start-period=5s --start-interval=500ms --retries=3 CMD curl -f localhost
ONBUILD RUN echo triggered
ENTRYPOINT exec app "$@"
CMD ["--help"]
MAINTAINER Nobody <nobody@example.org>
