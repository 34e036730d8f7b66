#!/usr/bin/env bash
# Build an image of this project with docker, podman or buildah: the one in BUILDER, or the first that is installed.
#
#   hack/build-image.sh [DOCKERFILE [NAME:TAG [further arguments of the builder …]]]
#
# The default is Dockerfile as session-manager:dev. PYTHON_IMAGE names another base image. ARCHIVE=app.tar also writes the
# image to a docker-archive, for clusters without a registry. Examples:
#
#   hack/build-image.sh Dockerfile registry.example/session-manager:1.2.3
#   hack/build-image.sh examples/Dockerfile session-agent:dev --build-arg AGENT=counter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

file=${1:-Dockerfile}
name=${2:-session-manager:dev}
shift $(($# < 2 ? $# : 2))

builder() {
  local each
  for each in docker podman buildah; do
    if command -v "$each" >/dev/null; then
      echo "$each"
      return
    fi
  done
  echo 'docker, podman or buildah is needed to build an image' >&2
  return 1
}

BUILDER=${BUILDER:-$(builder)}
layers=()
# The others do this by default: a layer is built, pushed and pulled again only if it changes.
[ "$(basename "$BUILDER")" = buildah ] && layers=(--layers)
"$BUILDER" build "${layers[@]}" -f "$file" -t "$name" ${PYTHON_IMAGE:+--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE"} "$@" .
[ -z "${ARCHIVE:-}" ] && exit
rm -f "$ARCHIVE"
if [ "$(basename "$BUILDER")" = docker ]; then
  docker save -o "$ARCHIVE" "$name"
else
  "$BUILDER" push -q "$name" "docker-archive:$ARCHIVE:$name"
fi
