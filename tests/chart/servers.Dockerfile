# Debian's Redis and PostgreSQL in one image, for charts that are tried on a cluster without a registry:
#
#   --set redis.image=localhost/servers:test,postgresql.image=localhost/servers:test
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
FROM ${PYTHON_IMAGE}
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server postgresql-15 >/dev/null \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 999 --no-create-home servers
USER 999:999
