"""What applications do with psycopg 3. Usage: psycopg3.py DATABASE_URL"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import errors, pq, sql
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from checks import check, raises, run

# More clients than the proxy has servers.
CLIENTS = 6


def connect(url, **arguments):
    return psycopg.connect(url, autocommit=True, **arguments)


def together(function, count=CLIENTS):
    """Calls a function in threads with 0, 1, …, and gives the answers."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(function, range(count)))


@check
def connection_knows_its_server(url):
    with connect(url) as conn:
        assert conn.info.server_version >= 120000
        assert conn.info.encoding == "utf-8"
        assert conn.info.parameter_status("integer_datetimes") == "on"
        assert conn.info.parameter_status("standard_conforming_strings") == "on"
        assert conn.info.backend_pid > 0
        assert conn.info.transaction_status == pq.TransactionStatus.IDLE


@check
def context_manager_commits_and_rolls_back(url):
    with psycopg.connect(url) as conn:
        conn.execute("create table ctx (n int)")
        conn.execute("insert into ctx values (1)")
    try:
        with psycopg.connect(url) as conn:
            conn.execute("insert into ctx values (2)")
            raise KeyError
    except KeyError:
        pass
    with connect(url) as conn:
        assert conn.execute("select n from ctx").fetchall() == [(1,)]


@check
def values_go_both_ways(url):
    values = ["ü\u2028'\"\\", 2**62, -1.5, None, True, b"\0\xff", [1, None, 3], Jsonb({"a": [1]})]
    marks = ", ".join(["%s::text", "%s::int8", "%s::float8", "%s::int", "%s::bool", "%s::bytea"])
    query = f"select {marks}, %s::int[], %s::jsonb"
    expected = tuple(values[:-1]) + ({"a": [1]},)
    with connect(url) as conn:
        for binary in [False, True]:
            assert conn.execute(query, values, binary=binary).fetchone() == expected
        with psycopg.ClientCursor(conn) as cursor:
            assert cursor.execute("select %s, %s", ("it's", 5)).fetchone() == ("it's", 5)
        assert conn.execute("select 1 as n", prepare=False).description[0].name == "n"
        cursor = conn.cursor(row_factory=dict_row)
        assert cursor.execute("select 1 as a, 'x' as b").fetchone() == {"a": 1, "b": "x"}


@check
def several_statements_in_one_query(url):
    with connect(url) as conn:
        cursor = conn.execute("select 1; select 2, 3; create temp table gone (n int) on commit drop")
        assert cursor.fetchall() == [(1,)]
        assert cursor.nextset() and cursor.fetchall() == [(2, 3)]
        assert cursor.nextset() and cursor.statusmessage == "CREATE TABLE"
        assert not cursor.nextset()
        assert conn.execute("").statusmessage is None
        assert conn.execute("select 1").fetchone() == (1,)


@check
def statements_prepared_by_themselves_over_shared_servers(url):
    with connect(url) as conn:
        conn.execute("create table prep (id int primary key, n int not null)")
        conn.execute("insert into prep select i, 0 from generate_series(0, 5) i")

    def client(me):
        # Every client names its statements _pg3_0, _pg3_1, …, but they are not the same.
        with psycopg.connect(url) as conn:
            conn.prepare_threshold = 2
            for turn in range(40):
                with conn.transaction():
                    conn.execute("update prep set n = n + 1 where id = %s", (me,))
                    row = conn.execute(f"select %s::int, {me}, n from prep where id = %s", (turn, me))
                    assert row.fetchone() == (turn, me, turn + 1)
            assert len(conn._prepared._names) >= 2

    together(client)


@check
def prepared_statements_are_evicted_by_the_client(url):
    with connect(url) as conn:
        conn.prepare_threshold = 0
        conn.prepared_max = 3
        for turn in range(3):
            for number in range(8):
                assert conn.execute(f"select {number}, %s::int", (turn,)).fetchone() == (number, turn)


@check
def prepared_statement_survives_a_changed_table(url):
    with connect(url) as conn, connect(url) as other:
        conn.execute("create table shape (a int)")
        conn.execute("insert into shape values (1)")
        conn.prepare_threshold = 0
        for _ in range(3):
            assert conn.execute("select a from shape where a > %s", (0,)).fetchone() == (1,)
        other.execute("alter table shape add b int default 7")
        for _ in range(3):
            assert conn.execute("select a from shape where a > %s", (0,)).fetchone() == (1,)
        conn.execute("deallocate all")
        assert conn.execute("select b from shape where a > %s", (0,)).fetchone() == (7,)


@check
def transactions_nest_by_savepoints(url):
    with connect(url) as conn:
        conn.execute("create table nest (n int unique)")
        with conn.transaction():
            conn.execute("insert into nest values (1)")
            try:
                with conn.transaction():
                    conn.execute("insert into nest values (2)")
                    conn.execute("insert into nest values (1)")
            except errors.UniqueViolation as error:
                assert error.diag.constraint_name == "nest_n_key"
            assert conn.info.transaction_status == pq.TransactionStatus.INTRANS
            with conn.transaction():
                conn.execute("insert into nest values (3)")
            with conn.transaction(force_rollback=True):
                conn.execute("insert into nest values (4)")
        assert conn.execute("select n from nest order by n").fetchall() == [(1,), (3,)]


@check
def levels_of_transactions(url):
    with psycopg.connect(url) as conn:
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        conn.read_only = True
        conn.deferrable = True
        for name, value in [
            ("transaction_isolation", "serializable"),
            ("transaction_read_only", "on"),
            ("transaction_deferrable", "on"),
        ]:
            assert conn.execute(f"show {name}").fetchone() == (value,)
        raises(errors.ReadOnlySqlTransaction, conn.execute, "create table never (n int)")
        conn.rollback()
        conn.isolation_level = conn.read_only = conn.deferrable = None
        assert conn.execute("show transaction_isolation").fetchone() == ("read committed",)


@check
def errors_then_continue(url):
    with connect(url) as conn:
        error = raises(errors.DivisionByZero, conn.execute, "select 1/0")
        assert error.diag.severity == "ERROR"
        error = raises(errors.SyntaxError, conn.execute, "selekt %s", (1,))
        assert error.diag.statement_position == "1"
        raises(errors.UndefinedTable, conn.execute, "select * from nowhere where a = %s", (1,))
        raises(errors.InvalidTextRepresentation, conn.execute, "select %s::int", ("x",))
        assert conn.execute("select %s::int", (1,)).fetchone() == (1,)
    with psycopg.connect(url) as conn:
        raises(errors.DivisionByZero, conn.execute, "select 1/%s", (0,))
        assert conn.info.transaction_status == pq.TransactionStatus.INERROR
        raises(errors.InFailedSqlTransaction, conn.execute, "select 1")
        conn.rollback()
        assert conn.execute("select 1").fetchone() == (1,)


@check
def executemany_with_results(url):
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("create table many (n int, t text)")
        rows = [(n, f"row {n}") for n in range(300)]
        cursor.executemany("insert into many values (%s, %s) returning n", rows, returning=True)
        seen = [cursor.fetchone()[0]]
        while cursor.nextset():
            seen.append(cursor.fetchone()[0])
        assert seen == list(range(300))
        assert cursor.execute("select count(*), sum(n) from many").fetchone() == (300, 44850)


@check
def pipeline_of_statements(url):
    def client(me):
        with connect(url) as conn:
            for _ in range(10):
                with conn.pipeline() as pipeline:
                    first = conn.execute("select %s::int", (me,))
                    with conn.transaction():
                        second = conn.execute("select %s::int * 2", (me,))
                    pipeline.sync()
                    third = conn.execute("select %s::text", ("x" * 10000,))
                assert first.fetchone() == (me,)
                assert second.fetchone() == (2 * me,)
                assert third.fetchone() == ("x" * 10000,)

    together(client)


@check
def pipeline_with_an_error_in_the_middle(url):
    with connect(url) as conn:
        conn.execute("create table pipe (n int)")
        with conn.pipeline() as pipeline:
            conn.execute("insert into pipe values (1)")
            # psycopg tells of the error at the first call that happens to read it.
            told = []
            for step in (
                lambda: conn.execute("insert into pipe values (1 / %s::int)", (0,)),
                lambda: conn.execute("insert into pipe values (3)"),
                pipeline.sync,
            ):
                try:
                    step()
                except errors.Error as error:
                    told.append(type(error))
            assert told[0] is errors.DivisionByZero, told
            conn.execute("insert into pipe values (4)")
        # One group up to Sync is one transaction: all of it or nothing.
        assert conn.execute("select n from pipe").fetchall() == [(4,)]


@check
def copy_in_and_out(url):
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("create table cp (n int, t text)")
        with cursor.copy("copy cp from stdin") as copy:
            for n in range(20000):
                copy.write_row((n, None if n % 7 == 0 else f"tab\there {n}"))
        assert cursor.rowcount == 20000
        with cursor.copy("copy cp (n, t) from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for n in range(100):
                copy.write_row((-n, "b"))
        with cursor.copy("copy (select n, t from cp where n >= 0 and t = 'tab\there 1') to stdout") as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == [(1, "tab\there 1")]
        with cursor.copy("copy cp to stdout (format binary)") as copy:
            assert sum(len(block) for block in copy) > 400000
        with cursor.copy("copy cp (n) from stdin") as copy:
            copy.write("1\n2\n")
        assert cursor.execute("select count(*) from cp").fetchone() == (20102,)


@check
def copy_that_fails_leaves_both_sides_in_step(url):
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("create table cpbad (n int)")

        def wrong():
            with cursor.copy("copy cpbad from stdin") as copy:
                for _ in range(2000):
                    copy.write("not a number\n")

        def given_up():
            with cursor.copy("copy cpbad from stdin") as copy:
                copy.write("1\n")
                raise KeyError("mine")

        def out():
            with cursor.copy("copy (select 1/(n - 5000) from generate_series(1, 10000) n) to stdout") as copy:
                for _ in copy:
                    pass

        raises(errors.InvalidTextRepresentation, wrong)
        raises(KeyError, given_up)
        raises(errors.DivisionByZero, out)
        assert conn.info.transaction_status == pq.TransactionStatus.IDLE
        assert cursor.execute("select count(*) from cpbad").fetchone() == (0,)


@check
def copy_by_several_clients_at_once(url):
    with connect(url) as conn:
        conn.execute("create table cpall (who int, n int)")

    def client(me):
        with psycopg.connect(url) as conn, conn.cursor() as cursor:
            with cursor.copy("copy cpall from stdin") as copy:
                for n in range(3000):
                    copy.write_row((me, n))
            conn.commit()
            with cursor.copy(sql.SQL("copy (select n from cpall where who = {}) to stdout").format(me)) as copy:
                assert sum(int(row[0]) for row in copy.rows()) == 2999 * 1500

    together(client)


@check
def cancel_of_a_running_query(url):
    def client(me):
        with connect(url) as conn:
            for _ in range(3):
                timer = threading.Timer(0.5, conn.cancel_safe if me % 2 else conn.cancel)
                start = time.monotonic()
                if me < 2:
                    timer.start()
                    raises(errors.QueryCanceled, conn.execute, "select pg_sleep(20)")
                    assert time.monotonic() - start < 10
                else:
                    # These did not ask to be cancelled, and must not be.
                    conn.execute("select pg_sleep(0.2)")
                timer.join() if me < 2 else None
                assert conn.execute("select %s::int", (me,)).fetchone() == (me,)

    together(client, 5)


@check
def cancel_inside_a_transaction(url):
    with psycopg.connect(url) as conn:
        conn.execute("create temp table held (n int) on commit drop")
        threading.Timer(0.5, conn.cancel).start()
        raises(errors.QueryCanceled, conn.execute, "select pg_sleep(20)")
        raises(errors.InFailedSqlTransaction, conn.execute, "select 1")
        conn.rollback()
        # One that finds nothing to cancel does nothing.
        conn.cancel()
        conn.execute("select 1")


@check
def cursors_on_the_server(url):
    with psycopg.connect(url) as conn:
        with conn.cursor("walk") as cursor:
            cursor.itersize = 100
            cursor.execute("select n from generate_series(1, 1000) n where n > %s", (0,))
            assert cursor.fetchone() == (1,)
            assert sum(row[0] for row in cursor) == 500500 - 1
        with conn.cursor("scroll", scrollable=True) as cursor:
            cursor.execute("select n from generate_series(1, 50) n")
            cursor.scroll(48)
            assert cursor.fetchall() == [(49,), (50,)]
            cursor.scroll(-2)
            assert cursor.fetchmany(1) == [(50,)]
        conn.commit()
    with connect(url) as conn:
        with conn.cursor("hold", withhold=True) as cursor:
            cursor.execute("select n from generate_series(1, 30) n")
            assert cursor.fetchmany(10)[-1] == (10,)
            conn.execute("select 1")
            assert cursor.fetchall()[-1] == (30,)


@check
def rows_one_at_a_time(url):
    with connect(url) as conn, conn.cursor() as cursor:
        rows = cursor.stream("select n, repeat('x', 1000) from generate_series(1, %s) n", (5000,))
        assert sum(row[0] for row in rows) == 12502500
        for row in cursor.stream("select n from generate_series(1, 100000) n"):
            break
        assert cursor.execute("select 1").fetchone() == (1,)


@check
def notifications(url):
    with connect(url) as ear, connect(url) as mouth:
        ear.execute("listen news")
        mouth.execute("select pg_notify('news', %s)", ("first",))
        with mouth.transaction():
            mouth.execute("notify news, 'second'")
        heard = [n.payload for n in ear.notifies(timeout=10, stop_after=2)]
        assert heard == ["first", "second"], heard
        # A listener still runs statements of its own.
        assert ear.execute("select %s::int", (5,)).fetchone() == (5,)
        ear.execute("unlisten news")
        mouth.execute("notify news, 'third'")
        assert list(ear.notifies(timeout=0.3)) == []


@check
def notices_reach_their_client(url):
    def client(me):
        seen = []
        with connect(url) as conn:
            conn.add_notice_handler(lambda notice: seen.append(notice.message_primary))
            for turn in range(10):
                conn.execute(f"do $$ begin raise notice 'for % turn %', {me}, {turn}; end $$")
        assert seen == [f"for {me} turn {turn}" for turn in range(10)], seen

    together(client)


@check
def settings_stay_with_their_client(url):
    zones = ["Europe/Berlin", "Asia/Tokyo", "UTC", "America/Lima", "Asia/Kolkata", "Africa/Cairo"]

    def client(me):
        with connect(url, application_name=f"app {me}") as conn:
            conn.execute("set timezone to '" + zones[me] + "'")
            conn.execute("select set_config('search_path', %s, false)", (f"s{me}, public",))
            conn.execute(f"set statement_timeout = {10001 + me}")
            for _ in range(20):
                assert conn.info.parameter_status("TimeZone") == zones[me]
                assert conn.execute("show timezone").fetchone() == (zones[me],)
                assert conn.execute("show search_path").fetchone() == (f"s{me}, public",)
                assert conn.execute("show application_name").fetchone() == (f"app {me}",)
                assert conn.execute("show statement_timeout").fetchone() == (f"{10001 + me}ms",)
            conn.execute("reset statement_timeout")
            assert conn.execute("show statement_timeout").fetchone() == ("0",)

    together(client)


@check
def settings_of_transactions(url):
    with psycopg.connect(url, options="-c work_mem=3MB -c geqo=off") as conn:
        assert conn.execute("select current_setting('work_mem'), current_setting('geqo')").fetchone() == ("3MB", "off")
        conn.execute("set local work_mem = '5MB'")
        assert conn.execute("show work_mem").fetchone() == ("5MB",)
        conn.commit()
        assert conn.execute("show work_mem").fetchone() == ("3MB",)
        conn.execute("set work_mem = '6MB'")
        conn.rollback()
        assert conn.execute("show work_mem").fetchone() == ("3MB",)
        conn.execute("set client_encoding = 'latin1'")
        conn.commit()
        assert conn.info.encoding == "iso8859-1"
        assert conn.execute("select 'é'").fetchone() == ("é",)
        raises(errors.InvalidParameterValue, conn.execute, "set timezone to 'Moon/Tycho'")
        conn.rollback()
        raises(errors.UndefinedObject, conn.execute, "set no_such_thing = 1")


@check
def temporary_tables_and_locks_bind(url):
    def client(me):
        with connect(url) as conn:
            conn.execute("create temp table mine (n int)")
            conn.execute("insert into mine values (%s)", (me,))
            for _ in range(5):
                assert conn.execute("select n from mine").fetchall() == [(me,)]
            conn.execute("select pg_advisory_lock(42)")
            assert conn.execute("select pg_advisory_unlock(42)").fetchone() == (True,)
            conn.execute("discard all")

    together(client, 4)


@check
def rows_as_objects_and_large_values(url):
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y

    with connect(url) as conn:
        cursor = conn.cursor(row_factory=class_row(Point))
        point = cursor.execute("select 1 as x, 2 as y").fetchone()
        assert (point.x, point.y) == (1, 2)
        blob = bytes(range(256)) * 40000
        assert conn.execute("select %b::bytea", (blob,), binary=True).fetchone() == (blob,)


@check
async def coroutines(url):
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        async with conn.transaction():
            cursor = await conn.execute("select %s::int", (1,))
            assert await cursor.fetchone() == (1,)
        async with conn.pipeline():
            cursors = [await conn.execute("select %s::int", (n,)) for n in range(50)]
        assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(50))


if __name__ == "__main__":
    run(globals())
