# Front door and operator in one image. Front door: the default command. Operator: python -m session_operator.
# The base is an argument, so that it can come from any registry or be made locally; it needs Python 3.11 or newer.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN python3 -m venv /opt/session-manager
WORKDIR /src
# Apart from the code, so that a change of it does not fetch everything again. Wheels only: nothing is compiled.
COPY requirements-image.lock ./
RUN /opt/session-manager/bin/pip install --quiet --only-binary :all: --require-hashes -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY session_manager session_manager
COPY operator operator
RUN /opt/session-manager/bin/pip install --quiet --no-deps --no-build-isolation . \
    && /opt/session-manager/bin/pip uninstall --quiet --yes hatchling editables trove-classifiers setuptools pip

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/session-manager /opt/session-manager
# The user has a name as well, since libraries ask for it.
RUN echo 'session-manager:x:65532:65532::/data:/usr/sbin/nologin' >>/etc/passwd \
    && mkdir -m 700 /data && chown 65532:65532 /data
ENV PATH=/opt/session-manager/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 DATA_DIR=/data LOG_FORMAT=json
# A number, so that runAsNonRoot can be checked without looking into the image.
USER 65532:65532
WORKDIR /data
EXPOSE 8080
# The exec form: SIGTERM reaches the program itself, which finishes running turns and then ends.
CMD ["session-manager", "serve"]
