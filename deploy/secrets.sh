#!/bin/sh
# Makes the passwords of docker-compose.yml's servers, once, into one volume for each reader. It is run at every `up`, and
# leaves alone what is there: the servers have stored the passwords in their own volumes at their first start. Only the rights
# in Redis are written anew each time, under the same password: a newer version of seckill may need others.
set -eu
umask 022
cd "${1:-/volumes}"
readers='app http migrate mysql rabbitmq redis'

# Redis writes its data as a user that differs between images. (Only in the stack there is a volume of it.)
[ ! -d redis-data ] || chmod 1777 redis-data

# put FILE: what comes on standard input, readable by whoever mounts the volume: each server has a user of its own.
put() {
    cat >"$1.new"
    chmod 0444 "$1.new"
    mv -f "$1.new" "$1"
}

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

# redis_rights PASSWORD: the user app may send what the gate's scripts and the client send, and no more, and use keys and channels
# named seckill:*. Nobody can log in as the user default. Its rights are those that Redis reads its own file of commands with:
# without them it would come back empty after a restart.
redis_rights() {
    put redis/users.acl <<EOF
user default off resetpass ~* &* +@all
user health on nopass resetkeys resetchannels -@all +ping
user app on >$1 resetkeys ~seckill:* resetchannels &seckill:* -@all +ping +hello +select +client|setinfo +client|setname +unwatch +script|load +evalsha +eval +info +time +type +exists +get +set +mset +unlink +rename +pexpire +incrby +decrby +hget +hmget +hgetall +hlen +hset +hdel +hvals +hscan +xadd +xlen +xdel +xrange +xgroup +xinfo +xreadgroup +xpending +xclaim +xack +waitaof +publish +subscribe +unsubscribe +psubscribe +punsubscribe
EOF
}

# Each volume has a file `complete`, written after everything else. Interrupted before that, nobody has started with what
# there is, and it is made anew.
there='' missing=''
for reader in $readers; do
    if [ -e "$reader/complete" ]; then there="$there $reader"; else missing="$missing $reader"; fi
done
if [ -z "$missing" ]; then
    app=$(cat app/redis_url)
    app=${app#redis://app:}
    redis_rights "${app%@redis:*}"
    # A stack of a version without a bank has none yet.
    [ -e http/bank_secret ] || random | put http/bank_secret
    # Nor a database for experiments. MySQL makes users at its first start only, so they are refused here, with a reason.
    [ -e app/lab_mysql_url ] || put app/lab_mysql_url <app/mysql_url
    echo "the secrets are there"
    exit 0
fi
if [ -n "$there" ]; then
    echo "the secrets of$missing are gone, those of$there are there: bring the volumes back," \
        "or remove everything, data too, with: docker compose down -v" >&2
    exit 1
fi

mysql_root=$(random) mysql_app=$(random) mysql_migrate=$(random) mysql_lab=$(random)
redis_app=$(random) rabbitmq_app=$(random) rabbitmq_admin=$(random)

echo "$mysql_root" | put mysql/root_password
# The health check's user may log in from inside the container, and nothing else.
put mysql/users.sql <<EOF
CREATE DATABASE IF NOT EXISTS seckill CHARACTER SET utf8mb4;
CREATE USER 'app'@'%' IDENTIFIED BY '$mysql_app';
GRANT SELECT, INSERT, UPDATE, DELETE ON seckill.* TO 'app'@'%';
CREATE USER 'migrate'@'%' IDENTIFIED BY '$mysql_migrate';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON seckill.* TO 'migrate'@'%';
CREATE DATABASE IF NOT EXISTS seckill_lab CHARACTER SET utf8mb4;
CREATE USER 'lab'@'%' IDENTIFIED BY '$mysql_lab';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX ON seckill_lab.* TO 'lab'@'%';
CREATE USER 'health'@'127.0.0.1';
DROP USER IF EXISTS 'root'@'%';
EOF

redis_rights "$redis_app"

# No guest: RabbitMQ makes its default user only where no definitions are given.
echo "$rabbitmq_admin" | put rabbitmq/admin_password
put rabbitmq/definitions.json <<EOF
{
  "vhosts": [{ "name": "seckill", "metadata": { "default_queue_type": "quorum" } }],
  "users": [
    { "name": "app", "password": "$rabbitmq_app", "tags": [] },
    { "name": "admin", "password": "$rabbitmq_admin", "tags": ["administrator"] }
  ],
  "permissions": [
    { "user": "app", "vhost": "seckill", "configure": ".*", "write": ".*", "read": ".*" },
    { "user": "admin", "vhost": "seckill", "configure": ".*", "write": ".*", "read": ".*" }
  ]
}
EOF

echo "mysql://app:$mysql_app@mysql:3306/seckill" | put app/mysql_url
echo "mysql://lab:$mysql_lab@mysql:3306/seckill_lab" | put app/lab_mysql_url
echo "redis://app:$redis_app@redis:6379/0" | put app/redis_url
echo "amqp://app:$rabbitmq_app@rabbitmq:5672/seckill" | put app/amqp_url
echo "mysql://migrate:$mysql_migrate@mysql:3306/seckill" | put migrate/mysql_url
random | put http/jwt_secret
random | put http/admin_token
random | put http/bank_secret

for reader in $readers; do
    : | put "$reader/complete"
done
echo "new secrets are made"
