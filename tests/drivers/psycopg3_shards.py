"""Cursors on the server and COPY by psycopg 3, over rows of several shards. It prints what it sees, which has to be
the same on one server that has all rows. Usage: psycopg3_shards.py DATABASE_URL"""

import sys

import psycopg


def cursors(connection):
    with connection.transaction():
        with connection.cursor(name="few") as cursor:
            cursor.itersize = 3
            cursor.execute("select amount, owner from accounts where amount >= %s order by amount", (2,))
            print([column.name for column in cursor.description], list(cursor))
        with connection.cursor(name="in binary", binary=True) as cursor:
            cursor.execute("select owner, count(*) from accounts where amount < %s group by owner order by owner", (9,))
            print([column.type_code for column in cursor.description], cursor.fetchmany(2), cursor.fetchall())
        with connection.cursor(name="Both ways", scrollable=True) as cursor:
            cursor.execute(
                "select a.amount, e.n from accounts a join entries e on e.what = a.owner order by 1, 2"
            )
            print(cursor.fetchmany(3))
            cursor.scroll(-2)
            print(cursor.fetchone())
            cursor.scroll(0, mode="absolute")
            print(cursor.fetchall())
        # What the block has written.
        connection.execute("update accounts set amount = amount + 100 where amount > 5")
        with connection.cursor(name="more") as first, connection.cursor(name="less") as second:
            first.execute("select amount from accounts order by amount desc")
            second.execute("select amount from accounts order by amount")
            for _ in range(3):
                print(first.fetchone(), second.fetchone())
        raise psycopg.Rollback()


def copies(connection):
    for query in [
        "select amount, owner from accounts order by amount",
        "select count(*)::int, sum(amount)::text from accounts",
        "select a.amount, e.n::text from accounts a join entries e on e.what = a.owner order by 1, 2",
    ]:
        for options in ["", " (format csv, header, force_quote *)"]:
            with connection.cursor().copy(f"copy ({query}) to stdout{options}") as copy:
                print([bytes(data) for data in copy])
        with connection.cursor().copy(f"copy ({query}) to stdout (format binary)") as copy:
            copy.set_types(["int4", "text"])
            print(list(copy.rows()))
    for text in ["copy accounts (amount, owner)", "copy (select amount, owner from accounts where amount > 3)"]:
        with connection.cursor().copy(f"{text} to stdout (format binary)") as copy:
            copy.set_types(["int4", "text"])
            print(sorted(copy.rows()))


def main():
    with psycopg.connect(sys.argv[1]) as connection:
        cursors(connection)
        copies(connection)
        connection.commit()
        connection.autocommit = True
        copies(connection)


main()
