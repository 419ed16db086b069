#!/usr/bin/env bash
# What people and scripts do with psql. Usage: psql.sh DATABASE_URL
set -euo pipefail
url=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Runs psql on the script that is its standard input.
session() {
  timeout 20 psql -XAtq -d "$url" "$@" -f - 2>&1
}

# Compares what a session said with what it should have said.
expect() {
  if [ "$2" != "$3" ]; then
    printf 'FAILED: %s\n--- expected\n%s\n--- seen\n%s\n' "$1" "$3" "$2"
    exit 1
  fi
  echo "$1: ok, as expected"
}

expect "meta commands" "$(
  session <<'SQL'
create table herd (id int primary key, name text);
\d herd
\dt herd
\conninfo
SQL
)" "$(printf 'id|integer||not null|\nname|text|||\npublic|herd|table|%s\n%s' \
  "$(psql -XAtq -d "$url" -c 'select current_user')" "$(psql -XAtq -d "$url" -c '\conninfo')")"

expect "variables, conditions, rows as commands" "$(
  session <<'SQL'
select 40 + 2 as answer, 'x y' as words \gset
select :answer, :'words';
\if :{?answer}
select 'known';
\endif
select format('select %s * %s', n, n) from generate_series(2, 3) n \gexec
\echo :SQLSTATE
SQL
)" $'42|x y\nknown\n4\n9\n00000'

expect "errors, then on" "$(
  session <<'SQL'
select 1/0;
select * from nowhere;
\echo :LAST_ERROR_SQLSTATE
begin;
select 1/0;
select 2;
rollback;
select 3;
\set ON_ERROR_ROLLBACK on
begin;
insert into herd values (1, 'ann');
insert into herd values (1, 'again');
insert into herd values (2, 'bob');
commit;
select count(*) from herd;
SQL
)" "$(printf '%s\n' \
  'psql:<stdin>:1: ERROR:  division by zero' \
  'psql:<stdin>:2: ERROR:  relation "nowhere" does not exist' \
  'LINE 1: select * from nowhere;' \
  '                      ^' \
  '42P01' \
  'psql:<stdin>:5: ERROR:  division by zero' \
  'psql:<stdin>:6: ERROR:  current transaction is aborted, commands ignored until end of transaction block' \
  '3' \
  'psql:<stdin>:12: ERROR:  duplicate key value violates unique constraint "herd_pkey"' \
  'DETAIL:  Key (id)=(1) already exists.' \
  '2')"

expect "copy both ways" "$(
  seq 10 10009 | sed 's/$/\tname/' >"$scratch/in"
  session <<SQL
\copy herd from '$scratch/in'
\copy (select id, name from herd where id >= 10 order by id) to '$scratch/out'
\copy herd from stdin
x	not a number
\.
select count(*) from herd;
copy herd from stdin;
-1	minus
-2	two
\.
copy (select id from herd where id < 0 order by id) to stdout;
SQL
  cmp "$scratch/in" "$scratch/out"
)" "$(printf '%s\n' \
  'psql:<stdin>:5: ERROR:  invalid input syntax for type integer: "x"' \
  'CONTEXT:  COPY herd, line 1, column id: "x"' \
  '10002' '-2' '-1')"

expect "rows in parts by a cursor" "$(
  session <<'SQL'
\set FETCH_COUNT 100
select count(*), sum(n) from generate_series(1, 1000) n;
select n from generate_series(1, 250) n offset 249;
\unset FETCH_COUNT
begin;
declare c cursor for select n from generate_series(1, 5) n;
fetch 2 from c;
move 1 in c;
fetch all from c;
commit;
SQL
)" $'1000|500500\n250\n1\n2\n4\n5'

expect "settings" "$(
  PGOPTIONS='-c work_mem=3MB' PGAPPNAME=herder session <<'SQL'
show work_mem;
show application_name;
set timezone to 'Asia/Tokyo';
show timezone;
\encoding latin1
\encoding
show client_encoding;
reset timezone;
begin;
set local work_mem = '5MB';
show work_mem;
commit;
show work_mem;
SQL
)" $'3MB\nherder\nAsia/Tokyo\nLATIN1\nLATIN1\n5MB\n3MB'

expect "prepared by SQL" "$(
  session <<'SQL'
prepare p (int) as select $1 + 1;
execute p(1);
select 'between';
execute p(2);
deallocate p;
execute p(3);
SQL
)" $'2\nbetween\n3\npsql:<stdin>:6: ERROR:  prepared statement "p" does not exist'

expect "notifications" "$(
  session <<'SQL' | sed 's/PID [0-9]*/PID n/'
listen news;
notify news, 'to myself';
unlisten news;
notify news, 'to nobody';
select 1;
SQL
)" $'Asynchronous notification "news" with payload "to myself" received from server process with PID n.\n1'

expect "one transaction or nothing" "$(
  session -1 -v ON_ERROR_STOP=1 <<'SQL' || true
insert into herd values (-50, 'x');
select 1/0;
SQL
  psql -XAtq -d "$url" -c 'select count(*) from herd where id = -50' -c 'select 7; select 8'
)" $'psql:<stdin>:2: ERROR:  division by zero\n0\n7\n8'

expect "cancel by Ctrl-C" "$(
  # A shell in the background ignores SIGINT, and so would psql: env gives it back.
  env --default-signal=INT psql -XAtq -d "$url" -c 'select pg_sleep(20)' >"$scratch/cancel" 2>&1 &
  pid=$!
  sleep 0.5
  kill -INT "$pid"
  wait "$pid" || true
  cat "$scratch/cancel"
)" $'Cancel request sent\nERROR:  canceling statement due to user request'
