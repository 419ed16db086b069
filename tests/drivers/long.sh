#!/bin/sh
# The long form of the drivers' tests: suites that drivers have of their own, each on Postgres itself
# and then through pgherd. What may fail through pgherd alone is listed in known.txt, with the reasons.
#
#   tests/drivers/long.sh           all; about half an hour
#   tests/drivers/long.sh asyncpg   one of them
#
# psycopg2, asyncpg, pg8000      from their source packages
# lib_pq, pgx                    from Debian's packages, with pgconn's cache and pgx' stdlib
# tokio_postgres, postgres       from their crates
# node_pg, node_pool             the newest pg, pg-pool, pg-cursor and pg-query-stream, with the tests of
#                                their last versions that brought any
# django, sqlalchemy             psycopg 3 brings no tests of its own, but these drive it in many ways,
#                                SQLAlchemy's both as blocking calls and in coroutines
# sqlx                           its usual idioms, which take long to build
set -eu
cd "$(dirname "$0")/../.."
.ci/prepare tests
pip=$PWD/target/drivers/python/bin/pip
suites=$PWD/target/drivers/suites
# To say what it is, psycopg2's source asks for pg_config.
PATH=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1):$PATH

# Fetches parts of the source of the installed version of a package of Python, for its tests.
fetch() {
  package=$1
  into=$suites/$2
  shift 2
  [ -d "$into" ] && return
  version=$("$pip" show "$package" | sed -n 's/^Version: //p')
  work=$(mktemp -d)
  "$pip" download --quiet --disable-pip-version-check --no-deps --no-binary "$package" --dest "$work" \
    "$package==$version"
  mkdir -p "$work/$package"
  tar -xf "$work"/*.tar.gz -C "$work/$package" --strip-components=1 --wildcards "$@"
  mv "$work/$package" "$into"
  rm -rf "$work"
}

# Lays the source of a crate out, whose tests then go where the variables of libpq say.
crate() {
  into=$suites/$1
  [ -d "$into" ] && return
  work=$(mktemp -d)
  mkdir "$work/src"
  echo >"$work/src/lib.rs"
  printf '[package]\nname = "fetch"\nversion = "0.1.0"\n[dependencies]\n%s = "=%s"\n' "$1" "$2" \
    >"$work/Cargo.toml"
  cargo fetch --quiet --manifest-path "$work/Cargo.toml"
  cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$1-$2" "$work/crate"
  cd "$work/crate"
  # A workspace of its own, without benchmarks, whose packages take long to build.
  sed -i '/^\[\[bench\]\]/,/^harness/d; /^\[dev-dependencies.criterion\]/,/^$/d' Cargo.toml
  printf '\n[workspace]\n' >>Cargo.toml
  sed -Ez -i 's/"[^"]*5433[^"]*"/\&crate::'"$4"'place(&)/g' $3
  sed -i 's/let config = s\.parse/let config = crate::place(s).parse/' $3
  cat >>"${3%% *}" <<'PLACE'

pub(crate) fn place(text: &str) -> String {
    let said = |name| std::env::var(name).unwrap();
    text.replace("5433", &said("PGPORT"))
        .replace("user=postgres", &format!("user=postgres dbname={}", said("PGDATABASE")))
}
PLACE
  cd - >/dev/null
  mv "$work/crate" "$into"
  rm -rf "$work"
}

# Lays packages of node out: the newest, with the tests of the last version of each that has some.
node_packages() {
  into=$suites/node
  [ -d "$into" ] && return
  work=$(mktemp -d)
  echo '{ "private": true }' >"$work/package.json"
  npm install --prefix "$work" --silent --ignore-scripts --no-audit --no-fund --legacy-peer-deps \
    pg@8 pg-pool@3 pg-cursor@2 pg-query-stream@4 pg-copy-streams@7 \
    pg-old@npm:pg@4.5.7 pg-pool-old@npm:pg-pool@3.0.0 pg-cursor-old@npm:pg-cursor@2.0.0 \
    pg-query-stream-old@npm:pg-query-stream@3.0.0 \
    mocha@10 semver@4 async@0.9.0 expect.js@0.3.1 lodash@4 co@4 bluebird@3 concat-stream@1.0 through@2.3
  for package in pg pg-pool pg-cursor pg-query-stream; do
    cp -r "$work/node_modules/$package-old/test" "$work/node_modules/$package/"
  done
  cp -r "$work/node_modules/pg-old/script" "$work/node_modules/pg/"
  # Those want packages that no registry has any more.
  streams=$work/node_modules/pg-query-stream/test
  rm "$streams/pauses.js" "$streams"/stream-tester*.js
  # Its name is that of a module no more.
  mv "$streams/async-iterator.es6" "$streams/async-iterator.es6.js"
  sed -i 's/async-iterator\.es6/&.js/' "$streams/async-iterator.js"
  mv "$work" "$into"
}

mkdir -p "$suites"
if [ ! -d /usr/share/gocode/src/github.com/jackc/pgx ] ||
  [ ! -d /usr/share/gocode/src/github.com/Masterminds/semver ]; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -qq \
    golang-github-jackc-pgx-v4-dev golang-github-masterminds-semver-dev >/dev/null
fi
# What the suites want besides: distro for that of asyncpg, and that of pg8000 is pytest's.
"$pip" install --quiet --disable-pip-version-check 'distro~=1.9' 'pg8000~=1.31' 'pytest~=9.0' \
  'pytest-timeout~=2.4' 'pytest-mock~=3.15' 'pytest-benchmark~=5.2' 'pytz'
fetch psycopg2-binary psycopg2 '*/tests'
fetch asyncpg asyncpg '*/tests'
fetch pg8000 pg8000 '*/test' '*/README.md'
fetch django django '*/tests'
fetch sqlalchemy sqlalchemy '*/test' '*/lib' '*/setup.cfg' '*/pyproject.toml'
crate tokio-postgres 0.7.18 'tests/test/main.rs tests/test/runtime.rs' ''
crate postgres 0.19.14 src/test.rs test::
node_packages

exec cargo test --workspace --locked --test it -- --ignored --nocapture --test-threads 1 "::${1:-}"
