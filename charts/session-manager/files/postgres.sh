# Starts PostgreSQL in any image that contains it. The database is created in a folder of its own and then renamed, so that an
# interrupted start begins anew. The password is set at every start, so that a changed Secret and a restart are enough.
set -eu
PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"
data=/data/pgdata
secret=/secret/postgres-password
refuse() { echo "$1" >&2; exit 1; }
[ -s "$secret" ] || refuse 'The password postgres-password in the Secret is empty.'
[ "$(wc -l <"$secret")" = 0 ] ||
  refuse 'The password postgres-password in the Secret contains a line break; write it without one, for example with printf %s.'

alone() { # FOLDER DATABASE, and SQL on standard input, a statement a line
  postgres --single -D "$1" -c exit_on_error=on -c log_min_error_statement=panic "$2" >/dev/null
}

if [ ! -s "$data/PG_VERSION" ]; then
  rm -rf "$data.new"
  initdb --pgdata="$data.new" --username=session_manager --pwfile="$secret" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  echo 'host all all all scram-sha-256' >>"$data.new/pg_hba.conf"
  echo 'CREATE DATABASE sessions' | alone "$data.new" postgres
  mv "$data.new" "$data"
else
  printf "ALTER USER session_manager PASSWORD '%s'\n" "$(sed "s/'/''/g" "$secret")" | alone "$data" postgres
fi
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
