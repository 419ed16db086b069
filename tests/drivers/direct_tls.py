"""Connects by libpq as told, which is to come to TLS, and asks a query."""

import sys

import psycopg

# The first version that can begin with TLS.
assert psycopg.pq.version() >= 170000, psycopg.pq.version()
with psycopg.connect(sys.argv[1]) as connection:
    word = connection.execute("select 'direct'").fetchone()[0]
    print(connection.pgconn.ssl_in_use, word)
