PATH="$PATH:$(echo /usr/lib/postgresql/*/bin)"
exec pg_isready -q -h 127.0.0.1 -U session_manager -d sessions
