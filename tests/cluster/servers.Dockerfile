# Redis and PostgreSQL of the distribution, where the published images cannot be pulled.
ARG PYTHON_IMAGE=debian:bookworm-slim
FROM ${PYTHON_IMAGE}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server postgresql-15 >/dev/null \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 999 --no-create-home --shell /usr/sbin/nologin server || true
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
