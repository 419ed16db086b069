"""What libpq and the server say to each other, message by message. Usage: psycopg3_wire.py DATABASE_URL

psycopg 3 gives what libpq 17 can do, its trace of messages among it; each must be there through the
proxy as without it, in the same order.
"""

import tempfile
from select import select

import psycopg
from psycopg import pq

from checks import check, run, say

COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT)
FLAGS = pq.Trace.SUPPRESS_TIMESTAMPS | pq.Trace.REGRESS_MODE


class Wire:
    """A connection of libpq, whose messages are written down."""

    def __init__(self, url):
        self.conn = pq.PGconn.connect(url.encode())
        assert self.conn.status == pq.ConnStatus.OK, self.conn.error_message
        self.conn.nonblocking = 1
        self.trace = tempfile.TemporaryFile()
        self.conn.trace(self.trace.fileno())
        self.conn.set_trace_flags(FLAGS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        status = self.conn.transaction_status
        self.conn.untrace()
        self.trace.seek(0)
        for line in self.trace.read().decode("utf-8", "replace").splitlines():
            say(line)
        say(pq.TransactionStatus(status).name)
        self.conn.finish()

    def queries(self, *texts):
        for text in texts:
            self.conn.send_query(text.encode())
            self.results()

    def extended(self, *texts):
        for text in texts:
            self.conn.send_query_params(text.encode(), None)
            self.results()

    def after(self, send, *arguments):
        getattr(self.conn, send)(*arguments)
        self.results()

    def pipeline(self, *steps):
        """Sends what the steps say, and takes results up to the last sync."""
        for send, *arguments in steps:
            getattr(self.conn, send)(*arguments)
        self.results(sum(send == "pipeline_sync" for send, *_ in steps))

    def result(self):
        while self.conn.flush():
            select([], [self.conn.socket], [])
        while self.conn.is_busy():
            select([self.conn.socket], [], [])
            self.conn.consume_input()
        return self.conn.get_result()

    def results(self, syncs=0):
        """Takes results: up to a number of syncs, or where none is awaited, to the end."""
        while True:
            result = self.result()
            if result is None:
                if not syncs:
                    return
                continue
            say(pq.ExecStatus(result.status).name)
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                syncs -= 1
                if not syncs:
                    return
            elif result.status == pq.ExecStatus.COPY_OUT:
                while self.conn.get_copy_data(0)[0] > 0:
                    pass
            elif result.status in COPYING:
                return

    def put(self, *lines, error=None):
        for line in lines:
            self.conn.put_copy_data(line)
        self.conn.put_copy_end(error)
        self.results()


def run_of(text, *values):
    return "send_query_params", text, list(values) or None


SYNC = ("pipeline_sync",)


@check
def simple_queries(url):
    with Wire(url) as wire:
        wire.queries(
            "select 1",
            "",
            " ; ",
            "select 1; select 'x' where false;",
            "begin; savepoint s; select 1; select foo; rollback to s",
            "select 2",
            "rollback",
            "do $$begin raise notice 'hi'; raise warning 'w'; end$$",
            "create temp table gone (a int) on commit drop",
            "copy (select 1) to stdout binary; select 2",
            "select 1/(3 - x) from generate_series(1, 5) x",
        )


@check
def transactions(url):
    texts = [
        "begin",
        "begin",
        "commit",
        "commit",
        "begin transaction isolation level serializable read only deferrable",
        "show transaction_isolation",
        "commit and chain",
        "show transaction_read_only",
        "rollback and chain",
        "rollback",
        "start transaction",
        "set transaction isolation level repeatable read",
        "select 1",
        "set transaction isolation level serializable",
        "abort",
        "end",
        "release savepoint nix",
        "begin",
        "release savepoint nix",
        "rollback",
        "select pg_advisory_lock(5)",
        "select pg_advisory_unlock(5)",
        "select pg_advisory_unlock(5)",
    ]
    with Wire(url) as wire:
        wire.queries(*texts)
        wire.queries("begin; select 1; commit; select 2; begin", "select 3; rollback; select 4")
        wire.queries("begin; savepoint a; savepoint b; release a; rollback to b", "rollback")
    with Wire(url) as wire:
        wire.extended(*texts, "vacuum pg_am", "select 1; select 2", "", " ;", "-- nothing")


@check
def two_phases(url):
    with Wire(url) as wire:
        wire.queries(
            "begin; create table two (a int); prepare transaction 'wire 1'",
            "commit prepared 'wire 1'",
            "commit prepared 'wire 1'",
            "begin",
            "prepare transaction 'wire 2'",
            "rollback prepared 'wire 2'",
            "begin",
            "select 1/0",
            "prepare transaction 'wire 3'",
            "begin; select 1; prepare transaction 'wire 4'; rollback prepared 'wire 4'",
            "rollback prepared 'wire 4'",
            "prepare transaction 'wire 5'",
        )


@check
def settings(url):
    with Wire(url) as wire:
        wire.queries(
            "set application_name = 'x'",
            "begin",
            "set local datestyle = 'SQL'",
            "set timezone = 'Asia/Tokyo'",
            "savepoint s",
            "set timezone = 'UTC'",
            "rollback to s",
            "commit",
            "reset all",
            "select set_config('application_name', 'y', false)",
            "set client_encoding = 'latin1'",
            "discard all",
            "set role nosuch",
            "set session authorization default",
            "set intervalstyle = 'iso_8601'; set bytea_output = 'escape'; select '\\x00'::bytea, '1 day'::interval",
            "begin; set application_name = 'in'; rollback",
            "set standard_conforming_strings = off",
            "select 'a\\\\b'",
            "set default_transaction_read_only = on",
            "create table nope (a int)",
            "reset default_transaction_read_only",
            "show nothing_of_the_kind",
        )


@check
def pipelines(url):
    with Wire(url) as wire:
        wire.conn.enter_pipeline_mode()
        wire.pipeline(
            run_of(b"select $1", b"1"),
            run_of(b"select 1/$1::int", b"0"),
            run_of(b"select 3"),
            SYNC,
            run_of(b"select 4"),
            SYNC,
        )
        wire.pipeline(run_of(b"begin"), run_of(b"select 5"), run_of(b"savepoint a"), SYNC)
        wire.pipeline(run_of(b"select bad"), run_of(b"select 5"), SYNC)
        wire.pipeline(run_of(b"rollback to a"), run_of(b"select 6"), run_of(b"commit"), SYNC)
        # Asked for without a sync.
        wire.pipeline(run_of(b"select 7"), ("send_flush_request",))
        wire.pipeline(run_of(b"select 8"), SYNC, SYNC, run_of(b"select 1/0"), SYNC)
        wire.conn.exit_pipeline_mode()


@check
def prepared_in_pipelines(url):
    with Wire(url) as wire:
        wire.conn.enter_pipeline_mode()
        wire.pipeline(
            ("send_prepare", b"a", b"select $1::int + 1"),
            ("send_query_prepared", b"a", [b"4"]),
            ("send_describe_prepared", b"a"),
            SYNC,
            ("send_close_prepared", b"a"),
            ("send_query_prepared", b"a", [b"4"]),
            SYNC,
            ("send_prepare", b"a", b"select 'other'"),
            ("send_query_prepared", b"a", None),
            ("send_prepare", b"a", b"select 'again'"),
            SYNC,
        )
        wire.pipeline(run_of(b"deallocate a"), ("send_query_prepared", b"a", None), SYNC)
        wire.pipeline(
            ("send_prepare", b"", b"select $1", [25]),
            ("send_query_prepared", b"", [b"q"]),
            ("send_query_prepared", b"", [b"r"], [1], 1),
            SYNC,
        )
        wire.pipeline(
            run_of(b"prepare z as select $1::int"),
            ("send_query_prepared", b"z", [b"7"]),
            run_of(b"execute z(8)"),
            ("send_describe_prepared", b"z"),
            run_of(b"deallocate all"),
            ("send_query_prepared", b"z", [b"7"]),
            SYNC,
        )
        wire.conn.exit_pipeline_mode()


@check
def portals_and_what_is_not_there(url):
    with Wire(url) as wire:
        wire.queries("begin", "declare walk scroll cursor with hold for select generate_series(1, 5)")
        wire.after("send_describe_portal", b"walk")
        wire.queries("fetch 2 from walk", "commit", "fetch backward 1 from walk")
        wire.after("send_describe_portal", b"walk")
        wire.after("send_close_portal", b"walk")
        wire.after("send_describe_portal", b"walk")
        wire.queries("fetch 1 from walk")
        wire.after("send_close_portal", b"nothing")
        wire.after("send_close_prepared", b"nothing")
        wire.after("send_describe_prepared", b"nothing")
        wire.after("send_query_prepared", b"nothing", None)


@check
def rows_one_at_a_time(url):
    with Wire(url) as wire:
        for text in [b"select generate_series(1, 5)", b"select 1/(3 - x) from generate_series(1, 5) x"]:
            wire.conn.send_query_params(text, None)
            wire.conn.set_single_row_mode()
            wire.results()
            wire.conn.send_query(text)
            wire.conn.set_chunked_rows_mode(2)
            wire.results()


@check
def copies(url):
    with Wire(url) as wire:
        wire.queries("create table cp (a int)", "copy cp from stdin")
        wire.put(b"1\n2\n")
        wire.queries("copy cp from stdin")
        wire.put(b"1\nx\n")
        wire.queries("copy cp from stdin")
        wire.put(b"1\n", error=b"no more")
        wire.extended("copy cp from stdin")
        wire.put(b"5\n", b"6\n")
        wire.extended("copy cp to stdout")
        wire.queries("copy cp from stdin; select 1; copy cp to stdout")
        wire.put(b"7\n")
        wire.queries("copy nothing from stdin", "copy (select 1/(x - 2) from generate_series(1, 3) x) to stdout")


@check
def in_a_pipeline_libpq_copies_nothing(url):
    wire = Wire(url)
    wire.conn.enter_pipeline_mode()
    wire.conn.send_query_params(b"copy (select 1) to stdout", None)
    wire.conn.pipeline_sync()
    say(pq.ExecStatus(wire.result().status).name, wire.conn.error_message)
    wire.conn.finish()
    with psycopg.connect(url) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


run(globals())
