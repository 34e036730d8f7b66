#!/usr/bin/env bash
# Serve ADK's API: start the front door on this machine, print a line when it answers, and stay in the foreground.
set -euo pipefail

usage() {
  cat <<'USAGE'
Usage: scripts/start_adk_api_server.sh [option of "session-manager dev"]…

Starts a front door with ADK's API in the foreground, with pods as processes. The base URL is /adk; the routes of sessions
and runs are also at the root. SIGTERM and Ctrl-C finish running turns first.

Environment, or .env in the working folder:
  PORT            port to listen on (8000)
  HOST            address to listen on (127.0.0.1; anything else needs SESSION_API_KEYS)
  SESSION_DB_URI  postgresql://… or sqlite:///…; without it the file sessions/sessions.db in DATA_DIR
  DATA_DIR        folder of all data (data); its folder sessions is created
  START_TIMEOUT   seconds within which /docs must answer (60)
USAGE
}

for argument in "$@"; do
  case $argument in -h | --help) usage; exit 0 ;; esac
done

# The environment wins. From .env only the settings of this script are read.
setting() { # NAME DEFAULT
  local value=${!1:-}
  if [ -z "$value" ] && [ -f .env ]; then
    value=$(sed -n "s/^[[:space:]]*\(export[[:space:]]\+\)\?$1=//p" .env | tail -n 1 | sed "s/^[\"']//; s/[\"'][[:space:]]*$//")
  fi
  echo "${value:-$2}"
}

PORT=$(setting PORT 8000)
host=$(setting HOST 127.0.0.1)
data=$(setting DATA_DIR data)
patience=${START_TIMEOUT:-60}
export PORT

beside=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin/session-manager
program=$(command -v session-manager || true)
[ -x "$beside" ] && program=$beside
if [ -z "$program" ]; then
  echo "session-manager is not installed: run 'make .venv/.run' in its folder, or pip install . there" >&2
  exit 1
fi

(umask 077 && mkdir -p "$data/sessions")

# In a separate process group: otherwise Ctrl-C would reach the server twice, and the second one skips the orderly stop.
set -m
"$program" dev "$@" &
child=$!
set +m
signalled=
forward() {
  signalled=yes
  kill -s "$1" "$child" 2>/dev/null || true
}
trap 'forward TERM' TERM
trap 'forward INT' INT
trap 'forward HUP' HUP

case $host in 0.0.0.0 | '') host=127.0.0.1 ;; '::') host='[::1]' ;; *:*) host="[$host]" ;; esac
url=http://$host:$PORT

answers() {
  # Uses only the shell: curl and wget may be missing.
  exec 3<>"/dev/tcp/${host//[\[\]]/}/$PORT" || return 1
  printf 'GET /docs HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n' "$host" "$PORT" >&3
  local line
  read -r -t 5 line <&3 || return 1
  exec 3>&-
  [[ $line == *' 200 '* ]]
}

deadline=$((SECONDS + patience))
until (answers) 2>/dev/null; do
  kill -0 "$child" 2>/dev/null || break
  if ((SECONDS >= deadline)); then
    echo "$url/docs did not answer within $patience seconds" >&2
    forward TERM
    wait "$child" || true
    exit 1
  fi
  sleep 0.2
done
kill -0 "$child" 2>/dev/null && echo "ADK's API: $url/adk   documentation: $url/docs"

# A signal interrupts wait; only an uninterrupted wait returns the child's status.
while :; do
  signalled=
  status=0
  wait "$child" || status=$?
  [ -n "$signalled" ] || exit "$status"
done
