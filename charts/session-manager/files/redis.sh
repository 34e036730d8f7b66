# Starts Redis. Passwords never appear on a command line. KEDA may read the lists of waking sessions and nothing else.
set -eu
umask 077
refuse() { echo "$1" >&2; exit 1; }
hash() { printf %s "$1" | sha256sum | cut -d' ' -f1; }
one_line() { # NAME VALUE
  case $2 in
    '') refuse "The password $1 in the Secret is empty." ;;
    *"
"*) refuse "The password $1 in the Secret contains a line break; write it without one, for example with printf %s." ;;
  esac
}
one_line redis-password "$REDIS_PASSWORD"
echo "user default on #$(hash "$REDIS_PASSWORD") ~* &* +@all" >/run/redis/users.acl
if [ -n "${KEDA_PASSWORD:-}" ]; then
  one_line keda-password "$KEDA_PASSWORD"
  case ${KEDA_USERNAME:-} in
    '' | default | *[!A-Za-z0-9._-]*) refuse 'keda-username in the Secret is not a user name; expected letters, digits, ".", "_" and "-".' ;;
  esac
  echo "user $KEDA_USERNAME on #$(hash "$KEDA_PASSWORD") ~session:*:awake resetchannels -@all +ping +eval +type +llen" >>/run/redis/users.acl
fi
unset REDIS_PASSWORD KEDA_PASSWORD REDISCLI_AUTH
exec redis-server --aclfile /run/redis/users.acl --dir /data --appendonly yes --appendfsync everysec --save '' \
  --maxmemory "$MAXMEMORY" --maxmemory-policy noeviction
