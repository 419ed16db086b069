#!/usr/bin/env bash
# pgbench in all three protocols, eight clients at once, and a script of pipelines; the books must
# balance. Usage: pgbench.sh DATABASE_URL
set -euo pipefail
url=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

ask() {
  psql -XAtq -v ON_ERROR_STOP=1 -d "$url" -c "$1"
}

# Runs pgbench, none of whose transactions may fail. Each client has a thread of its own: pgbench
# prepares in a call that blocks its thread, whose other clients would keep servers meanwhile.
bench() {
  pgbench -n -c 8 -j 8 "$@" "$url" >"$scratch/out" 2>&1 || {
    cat "$scratch/out"
    exit 1
  }
  grep -q 'number of failed transactions: 0 ' "$scratch/out"
  echo "ok: $(grep "transactions actually processed" "$scratch/out")"
}

pgbench -i -q -s 1 "$url" 2>/dev/null
for mode in simple extended prepared; do
  echo "$mode"
  bench -T 2 -M "$mode"
done
balanced="select (select sum(abalance) from pgbench_accounts) = sum(delta)
  and (select sum(tbalance) from pgbench_tellers) = sum(delta)
  and (select sum(bbalance) from pgbench_branches) = sum(delta) from pgbench_history"
[ "$(ask "$balanced")" = t ]

echo "pipelines"
cat >"$scratch/pipeline.sql" <<'SQL'
\set n random(1, 100000)
\startpipeline
begin;
select abalance from pgbench_accounts where aid = :n;
update pgbench_accounts set abalance = abalance + 1 where aid = :n;
select :n + 1;
commit;
\endpipeline
SQL
for mode in extended prepared; do
  bench -T 1 -M "$mode" -f "$scratch/pipeline.sql"
done

echo "a connection for each transaction"
bench -T 1 -C -S -M prepared
