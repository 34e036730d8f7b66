# Front door and operator in one image. The default command runs the front door, python -m session_operator the operator.
# The base image is an argument, so that it can come from any registry or be built locally; it needs Python 3.11 or newer.
ARG PYTHON_IMAGE=python:3.12-slim
ARG GO_IMAGE=golang:1.26

# Only for the target continuous. A test compares the version with the one in the program.
FROM ${GO_IMAGE} AS litestream
RUN CGO_ENABLED=0 GOBIN=/tool go install -trimpath -ldflags '-s -w' github.com/benbjohnson/litestream/cmd/litestream@v0.5.18

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN python3 -m venv /opt/session-manager
WORKDIR /src
# A separate layer from the code, so that a code change neither fetches the dependencies nor makes nodes pull them again. Only
# wheels are installed. The build tools move aside. Of the Kubernetes client only connection and configuration are used; its
# classes for each kind and call are loaded on demand, and would be half of the image.
COPY requirements-image.lock ./
RUN /opt/session-manager/bin/pip install --quiet --no-compile --no-deps --require-hashes --only-binary :all: -r requirements-image.lock \
    && cd /opt/session-manager/lib/python3*/site-packages \
    && mkdir /tools && mv pip pip-* hatchling* editables* trove_classifiers* pathspec* pluggy* tomlkit* /tools \
    && rm -rf setuptools* pkg_resources _distutils_hack distutils-precedence.pth \
    && rm -f /opt/session-manager/bin/pip* /opt/session-manager/bin/hatchling /opt/session-manager/bin/trove-classifiers \
    && find kubernetes/client kubernetes/aio/client \( -path '*/api/*' -o -path '*/models/*' \) ! -name __init__.py -delete \
    && /opt/session-manager/bin/python -m compileall -q .
COPY pyproject.toml README.md LICENSE ./
COPY session_manager session_manager
COPY operator operator
RUN PYTHONPATH=/tools /opt/session-manager/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-compile \
        --prefix /app . \
    && /opt/session-manager/bin/python -m compileall -q -s /app -p /opt/session-manager /app \
    && PYTHONPATH=$(echo /app/lib/python3*/site-packages) /opt/session-manager/bin/python -c \
        'import session_manager.serving.server, session_manager.runtime.kubernetes.cluster, session_operator.main'

FROM ${PYTHON_IMAGE} AS program
COPY --from=build /opt/session-manager /opt/session-manager
COPY --from=build /app /opt/session-manager
# Any user of the group root may run it, as on OpenShift, which gives each namespace users of its own. Libraries look up the name and
# the home of the user, so both are set for those who are not in /etc/passwd.
RUN echo 'session-manager:x:65532:65532::/data:/usr/sbin/nologin' >>/etc/passwd \
    && mkdir -m 770 /data && chown 65532:0 /data
ENV PATH=/opt/session-manager/bin:$PATH HOME=/data USER=session-manager \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 DATA_DIR=/data LOG_FORMAT=json
# A number, so that Kubernetes can check runAsNonRoot without looking into the image.
USER 65532:65532
WORKDIR /data
EXPOSE 8080
# The exec form: SIGTERM reaches the program itself, which finishes running turns and then ends.
CMD ["session-manager", "serve"]

# --target continuous adds Litestream, which ships changes of SQLite to a bucket (BACKUP_MODE=continuous): 55 MB, 17 MB to pull.
FROM program AS continuous
COPY --from=litestream /tool/litestream /usr/local/bin/litestream

# --target postgresql adds pg_dump, pg_restore and psql for backups of PostgreSQL: 150 MB. They come from the base's Debian (17 in
# the default one) and must be at least as new as the server.
FROM program AS postgresql
USER root
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-client >/dev/null && rm -rf /var/lib/apt/lists/*
USER 65532:65532

# The default target.
FROM program
