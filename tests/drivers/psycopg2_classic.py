"""What applications do with psycopg2. Usage: psycopg2_classic.py DATABASE_URL"""

import datetime as dt
import decimal
import io
import select
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg2
from psycopg2 import errors, extensions, extras, pool, sql

from checks import check, raises, run, say

# More clients than the proxy has servers.
CLIENTS = 6


def connect(url, **arguments):
    conn = psycopg2.connect(url, **arguments)
    conn.autocommit = True
    return conn


def ask(conn, query, values=None):
    """Gives all rows of a query."""
    with conn.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall() if cursor.description else cursor.statusmessage


def together(function):
    """Calls a function in threads with 0, 1, …, and gives the answers."""
    with ThreadPoolExecutor(CLIENTS) as threads:
        return list(threads.map(function, range(CLIENTS)))


@check
def values_go_both_ways(url):
    extras.register_uuid()
    moment = dt.datetime(2024, 2, 29, 12, 30, 1, 5, dt.timezone(dt.timedelta(hours=2)))
    values = [
        "ü\u2028'\"\\%",
        2**62,
        decimal.Decimal("1.10"),
        None,
        True,
        b"\0\xff'",
        [1, None, 3],
        [["a", "b"], ["c", 'd"']],
        extras.Json({"a": [1, None]}),
        dt.date(2024, 2, 29),
        dt.time(23, 59, 59, 999999),
        moment,
        dt.timedelta(days=40, seconds=3),
        uuid.UUID(int=7),
        extras.NumericRange(1, 5),
        extras.Inet("10.0.0.1/8"),
    ]
    kinds = "text int8 numeric int bool bytea int[] text[] jsonb date time timestamptz interval uuid int4range inet"
    marks = ", ".join(f"%s::{kind}" for kind in kinds.split())
    conn = connect(url, options="-c timezone=UTC -c intervalstyle=postgres")
    row = list(ask(conn, f"select {marks}", values)[0])
    row[5] = bytes(row[5])
    assert row[0] == values[0] and row[5] == values[5] and row[11] == moment, row
    say(row)
    conn.set_client_encoding("LATIN1")
    say(ask(conn, "select 'é', length('é'), %s", ("ü",)), ask(conn, "show client_encoding"))
    conn.close()


@check
def composites_and_rows_by_name(url):
    conn = connect(url)
    ask(conn, "create type herd as (name text, size int)")
    extras.register_composite("herd", conn)
    say(ask(conn, "select row('cows', 7)::herd, array[row('goats', 2)::herd]"))
    with conn.cursor(cursor_factory=extras.NamedTupleCursor) as cursor:
        cursor.execute("select 1 as a, 'x' as b")
        say(cursor.fetchone())
    with conn.cursor(cursor_factory=extras.RealDictCursor) as cursor:
        cursor.execute("select 1 as a, 'x' as b; select 2 as c")
        say(dict(cursor.fetchone()))
    conn.close()


@check
def many_rows_by_the_helpers(url):
    conn = psycopg2.connect(url)
    with conn, conn.cursor() as cursor:
        cursor.execute("create table many (n int primary key, t text)")
        made = extras.execute_values(
            cursor, "insert into many values %s returning n", [(n, f"row {n}") for n in range(2500)], fetch=True
        )
        extras.execute_batch(cursor, "update many set t = t || %s where n = %s", [("!", n) for n in range(500)])
        cursor.executemany("delete from many where n = %s", [(n,) for n in range(10)])
    say(len(made), ask(conn, "select count(*), sum(n), count(*) filter (where t like '%!') from many"))
    conn.close()


@check
def transactions_commit_and_roll_back(url):
    conn = psycopg2.connect(url)
    with conn:
        ask(conn, "create table trans (n int unique deferrable initially deferred)")
    raises(KeyError, block_that_raises, conn)
    with conn:
        ask(conn, "insert into trans values (1)")
        ask(conn, "savepoint here")
        error = raises(errors.DivisionByZero, ask, conn, "select 1/0")
        say(error.pgcode, error.diag.message_primary, conn.get_transaction_status())
        say(raises(errors.InFailedSqlTransaction, ask, conn, "select 1").pgcode)
        ask(conn, "rollback to here")
    say(ask(conn, "select n from trans"), conn.status == extensions.STATUS_IN_TRANSACTION)
    ask(conn, "insert into trans values (1)")
    # A deferred constraint speaks at the end.
    say(raises(errors.UniqueViolation, conn.commit).diag.constraint_name)
    conn.rollback()
    conn.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)
    for name in ["transaction_isolation", "transaction_read_only", "transaction_deferrable"]:
        say(name, ask(conn, f"show {name}"))
    say(raises(errors.ReadOnlySqlTransaction, ask, conn, "insert into trans values (9)").pgcode)
    conn.rollback()
    conn.set_session(isolation_level="DEFAULT", readonly="DEFAULT", deferrable="DEFAULT", autocommit=True)
    say(ask(conn, "show transaction_isolation"), ask(conn, "show transaction_read_only"))
    # With autocommit, these are settings of the session.
    conn.set_session(isolation_level="REPEATABLE READ", readonly=True)
    say(ask(conn, "show transaction_isolation"), ask(conn, "show default_transaction_read_only"))
    conn.reset()
    say(ask(conn, "show default_transaction_isolation"))
    conn.close()


def block_that_raises(conn):
    with conn:
        ask(conn, "insert into trans values (5)")
        raise KeyError


@check
def two_phases(url):
    conn = psycopg2.connect(url)
    mine = conn.xid(1, uuid.uuid4().hex, "branch")
    conn.tpc_begin(mine)
    ask(conn, "create table phases (n int)")
    try:
        conn.tpc_prepare()
        conn.tpc_commit()
        say("committed")
    except psycopg2.Error as error:
        say(type(error).__name__, error.pgcode)
    conn.close()


@check
def cursors_on_the_server(url):
    conn = psycopg2.connect(url)
    with conn, conn.cursor("walk", scrollable=True) as cursor:
        cursor.itersize = 70
        cursor.execute("select n from generate_series(1, %s) n", (500,))
        say(sum(row[0] for row in cursor))
        cursor.scroll(-3)
        say(cursor.fetchmany(2), cursor.fetchall())
    with conn:
        held = conn.cursor("hold", withhold=True)
        held.execute("select n from generate_series(1, 30) n")
        say(held.fetchmany(3))
    say(ask(conn, "select 1"))
    conn.commit()
    say(len(held.fetchall()))
    held.close()
    say(raises(errors.InvalidCursorName, ask, conn, "fetch 1 from hold").pgcode)
    conn.close()


@check
def big_results(url):
    def client(me):
        conn = connect(url)
        rows = ask(conn, "select n, repeat(%s, 1000) from generate_series(1, 4000) n", (str(me),))
        long = ask(conn, "select repeat(%s, 5000000)", (str(me),))[0][0]
        conn.close()
        assert {row[1] for row in rows} == {str(me) * 1000} and long == str(me) * 5_000_000
        return len(rows), len(long)

    say(together(client))


@check
def statements_prepared_by_text(url):
    conn = connect(url)
    ask(conn, "create table prep (id int primary key, n int not null)")
    ask(conn, "insert into prep select i, 0 from generate_series(0, 5) i")
    conn.close()

    def client(me):
        conn = psycopg2.connect(url)
        with conn:
            ask(conn, f"prepare mine (int) as update prep set n = n + $1 where id = {me} returning n")
        for turn in range(15):
            with conn:
                assert ask(conn, "execute mine (%s)", (2,)) == [(2 * (turn + 1),)]
        with conn:
            ask(conn, "deallocate mine")
        code = raises(errors.InvalidSqlStatementName, ask, conn, "execute mine (1)").pgcode
        conn.close()
        return code

    say(together(client))


@check
def copy_in_and_out(url):
    conn = connect(url)
    ask(conn, "create table cp (who int, t text)")

    def client(me):
        conn = psycopg2.connect(url)
        with conn, conn.cursor() as cursor:
            cursor.copy_from(io.StringIO(f"{me}\tsome\\ttext\n" * 4000), "cp", columns=("who", "t"))
            cursor.copy_expert("copy cp from stdin (format csv)", io.StringIO(f'{me},"a, b"\n' * 3))
            seen = cursor.rowcount
        out = io.BytesIO()
        with conn, conn.cursor() as cursor:
            cursor.copy_expert(sql.SQL("copy (select t from cp where who = {}) to stdout").format(sql.Literal(me)), out)
        with conn.cursor() as cursor:
            bad = io.StringIO("1\tfine\nno\tbad\n")
            code = raises(errors.InvalidTextRepresentation, cursor.copy_from, bad, "cp").pgcode
        conn.rollback()
        count = ask(conn, "select count(*) from cp where who = %s", (me,))
        conn.close()
        return seen, len(out.getvalue()), code, count

    say(together(client))
    with conn.cursor() as cursor:
        cursor.copy_to(all := io.StringIO(), "cp", sep="|")
    say(len(all.getvalue()))
    conn.close()


@check
def cancel_and_timeouts(url):
    conn = connect(url, options="-c statement_timeout=150ms")
    say(raises(errors.QueryCanceled, ask, conn, "select pg_sleep(20)").diag.message_primary)
    ask(conn, "set statement_timeout = 0")
    other = connect(url)
    for turn in range(2):
        threading.Timer(0.3, conn.cancel).start()
        error = raises(errors.QueryCanceled, ask, conn, "select pg_sleep(20)")
        say(error.diag.message_primary, ask(conn, "select %s", (turn,)), ask(other, "select 5 from pg_sleep(0.05)"))
    ask(conn, "create table locked (n int)")
    conn.autocommit = other.autocommit = False
    ask(conn, "lock locked")
    ask(other, "set local lock_timeout = '50ms'")
    say(raises(errors.LockNotAvailable, ask, other, "select * from locked").pgcode)
    other.rollback()
    say(ask(other, "show lock_timeout"))
    conn.close()
    other.close()


@check
def notifications(url):
    ear, mouth = connect(url), connect(url)
    ask(ear, "listen news")
    ask(mouth, "notify news, 'first'")
    mouth.autocommit = False
    ask(mouth, "select pg_notify('news', 'second')")
    ask(mouth, "notify other, 'unheard'")
    mouth.commit()
    ask(mouth, "notify news, 'undone'")
    mouth.rollback()
    heard = []
    while len(heard) < 2:
        assert select.select([ear], [], [], 10) != ([], [], []), heard
        ear.poll()
        heard += [(note.channel, note.payload) for note in ear.notifies]
        ear.notifies.clear()
    ask(ear, "unlisten *")
    say(heard, ask(ear, "select pg_listening_channels()"), ear.notifies)
    ear.close()
    mouth.close()


@check
def settings_stay_with_their_client(url):
    def client(me):
        conn = psycopg2.connect(url, application_name=f"app {me}", options=f"-c work_mem={200 + me}kB")
        for turn in range(10):
            ask(conn, "set search_path to %s", (f"s{me}",))
            ask(conn, "set local lock_timeout = %s", (me + 1,))
            if turn % 2:
                conn.rollback()
            else:
                conn.commit()
            shown = [ask(conn, f"show {name}")[0][0] for name in ["application_name", "work_mem", "search_path"]]
            assert shown == [f"app {me}", f"{200 + me}kB", f"s{me}"], shown
            conn.commit()
        ask(conn, "set work_mem = '9MB'")
        conn.commit()
        conn.reset()
        shown.append(ask(conn, "show work_mem"))
        conn.close()
        return shown

    say(together(client))


@check
def asynchronous_connection(url):
    conn = psycopg2.connect(url, async_=True)
    extras.wait_select(conn)
    with conn.cursor() as cursor:
        for query in ["select 1; select 2", "select pg_sleep(0.1), 3"]:
            cursor.execute(query)
            extras.wait_select(conn)
            say(cursor.fetchall())
        cursor.execute("select 1/0")
        say(raises(errors.DivisionByZero, extras.wait_select, conn).pgcode)
    conn.close()


@check
def large_objects(url):
    conn = psycopg2.connect(url)
    with conn:
        big = conn.lobject(0, "wb")
        big.write(b"x" * 100_000)
        big.seek(10)
        big.write(b"there")
        number = big.oid
        big.close()
    with conn:
        big = conn.lobject(number, "rb")
        big.seek(8)
        say(big.read(9), len(big.read()), big.tell())
        big.unlink()
    say(raises(psycopg2.OperationalError, conn.lobject, number).args[0].replace(str(number), "N"))
    conn.close()


@check
def pool_of_connections(url):
    shared = pool.ThreadedConnectionPool(1, CLIENTS, url)

    def client(me):
        for turn in range(10):
            conn = shared.getconn()
            with conn:
                assert ask(conn, "select %s + %s", (me, turn)) == [(me + turn,)]
                ask(conn, "set local work_mem = '99kB'")
            assert ask(conn, "show work_mem")[0][0] != "99kB"
            # It rolls back what was begun.
            shared.putconn(conn)
        return turn

    say(together(client))
    shared.closeall()


@check
def work_goes_on_after_the_server_was_lost(url):
    conn, killer = connect(url), connect(url)
    ask(conn, "create table lost (n int)")
    conn.autocommit = False
    ask(conn, "insert into lost values (1)")
    pid = ask(conn, "select pg_backend_pid()")[0][0]
    say(ask(killer, "select pg_terminate_backend(%s, 5000)", (pid,)))
    error = raises(psycopg2.OperationalError, ask, conn, "insert into lost values (2)")
    # Directly the connection is gone; behind the proxy it is only the block.
    assert error.pgcode in ("57P01", "40001", None), error.pgcode
    if conn.closed:
        conn = psycopg2.connect(url)
    else:
        conn.rollback()
    with conn:
        ask(conn, "insert into lost values (3)")
    say(ask(conn, "select * from lost"))
    conn.close()
    killer.close()


if __name__ == "__main__":
    run(globals())
