#!/bin/sh
# The long form of the comparison: our own scripts with random turns, and Postgres' regression
# scripts, whose source is fetched by apt, or taken from PGHERD_REGRESS (a src/test/regress). Where there is none to
# be had, those of .ci/prepare are taken, of a version near by and without the data that some of them load.
#
#   PGHERD_DIFFERENTIAL_SEED=…    repeats a run
#   PGHERD_DIFFERENTIAL_ROUNDS=…  random turns of our own scripts, 5 unless said otherwise
#   PGHERD_DIFFERENTIAL_ONLY=…    some scripts alone: guc,prepare
set -eu
cd "$(dirname "$0")/../.."
into=$PWD/target/regress

# The source of the version that is installed, from Debian or Ubuntu.
fetch() {
  package=postgresql-$(ls /usr/lib/postgresql | sort -n | tail -1)
  # shellcheck disable=SC2016
  version=$(dpkg-query -W -f '${source:Version}' "$package")
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/source"
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -e "$file" ] && sed -n 's/^deb /deb-src /p' "$file" >>"$work/sources.list"
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] || continue
    { sed 's/^Types:.*/Types: deb-src/' "$file" && echo; } >>"$work/all.sources"
  done
  options="-o Dir::Etc::sourceparts=- -o Dir::State::lists=$work/lists -o Dir::Cache=$work/cache"
  for list in "$work/sources.list" "$work/all.sources"; do
    [ -s "$list" ] || continue
    # Each word is an option. A list without sources of its own is no fault.
    # shellcheck disable=SC2086
    apt-get -qq $options -o "Dir::Etc::sourcelist=$list" update || true
    # shellcheck disable=SC2086
    (cd "$work/source" && apt-get -qq $options -o "Dir::Etc::sourcelist=$list" \
      source --download-only "$package=$version") && break
  done
  mkdir -p "$into"
  tar -xf "$work"/source/*.orig.tar.* -C "$into" --strip-components=4 --wildcards \
    '*/src/test/regress/sql' '*/src/test/regress/data'
}

if [ -z "${PGHERD_REGRESS:-}" ]; then
  [ -d "$into/sql" ] || (fetch) || {
    echo "no source of Postgres: the scripts of .ci/prepare are taken" >&2
    mkdir -p "$into/sql" "$into/data"
    cp target/scripts/*.sql "$into/sql"
  }
  # The server reads the data, and must be let in.
  readable=/tmp/pgherd-regress-$(id -u)
  rm -rf "$readable"
  cp -r "$into" "$readable"
  chmod -R a+rX "$readable"
  export PGHERD_REGRESS="$readable"
fi
exec cargo test --test differential -- --ignored --nocapture --test-threads 1
