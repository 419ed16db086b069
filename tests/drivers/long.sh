#!/bin/sh
# The long form of the drivers' tests: the suites of psycopg2 and asyncpg, from their source
# packages, of Go's lib/pq and pgx, and the idioms of sqlx, which takes long to build; each on Postgres
# itself and then through pgherd. What may fail through pgherd alone is listed in known.txt, with the reasons.
#
#   tests/drivers/long.sh           all; about ten minutes
#   tests/drivers/long.sh asyncpg   one of them: psycopg2, asyncpg, lib_pq, pgx, sqlx
set -eu
cd "$(dirname "$0")/../.."
.ci/prepare tests
pip=$PWD/target/drivers/python/bin/pip
suites=$PWD/target/drivers/suites
# To say what it is, psycopg2's source asks for pg_config.
PATH=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1):$PATH

# Fetches the source of the installed version of a package, for its tests.
fetch() {
  [ -d "$suites/$2/tests" ] && return
  version=$("$pip" show "$1" | sed -n 's/^Version: //p')
  work=$(mktemp -d)
  "$pip" download --quiet --disable-pip-version-check --no-deps --no-binary "$1" --dest "$work" \
    "$1==$version"
  mkdir -p "$suites/$2"
  tar -xf "$work"/*.tar.gz -C "$suites/$2" --strip-components=1 --wildcards '*/tests'
  rm -rf "$work"
}

if [ ! -d /usr/share/gocode/src/github.com/jackc/pgx ]; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -qq \
    golang-github-jackc-pgx-v4-dev >/dev/null
fi
mkdir -p "$suites"
fetch psycopg2-binary psycopg2
fetch asyncpg asyncpg
# Which the suite of asyncpg wants.
"$pip" install --quiet --disable-pip-version-check 'distro~=1.9'

exec cargo test --test it -- --ignored --nocapture --test-threads 1 "drivers::suites::${1:-}"
