"""What applications do with asyncpg, whose statement cache is on. Usage: asyncpg_cache.py DATABASE_URL"""

import asyncio
import datetime
import decimal
import json

import asyncpg

from checks import check, run

# More clients than the proxy has servers.
CLIENTS = 6


async def together(function, count=CLIENTS):
    """Runs coroutines with 0, 1, … at once, and gives their answers."""
    return await asyncio.gather(*(function(number) for number in range(count)))


async def fails(kind, awaitable):
    """Gives the error of an awaitable, which must be of a kind."""
    try:
        await awaitable
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


class Connection:
    """A connection for a block."""

    def __init__(self, url, **arguments):
        self.url, self.arguments = url, arguments

    async def __aenter__(self):
        self.conn = await asyncpg.connect(self.url, **self.arguments)
        return self.conn

    async def __aexit__(self, *_):
        await self.conn.close(timeout=10)


@check
async def values_go_both_ways(url):
    async with Connection(url) as conn:
        assert conn.get_server_version().major >= 12
        assert conn.get_settings().client_encoding == "UTF8"
        query = "select $1::text, $2::int8, $3::numeric, $4::timestamptz, $5::bytea, $6::int[], $7::jsonb"
        now = datetime.datetime.now(datetime.timezone.utc)
        values = ("ü'\\", 2**62, decimal.Decimal("1.50"), now, b"\0\xff", [1, None, 3], '{"a": 1}')
        for _ in range(3):
            assert tuple(await conn.fetchrow(query, *values)) == values
        assert await conn.fetchval("select null") is None
        assert await conn.fetch("select 1 where false") == []
        assert await conn.execute("create table vals (n int)") == "CREATE TABLE"
        assert await conn.execute("insert into vals select generate_series(1, $1::int)", 5) == "INSERT 0 5"
        assert await conn.execute("select 1; select 2; select 3") == "SELECT 1"


@check
async def cached_statements_over_shared_servers(url):
    async with Connection(url) as conn:
        await conn.execute("create table cached (id int primary key, n int not null)")
        await conn.execute("insert into cached select i, 0 from generate_series(0, 5) i")

    async def client(me):
        # Every client has a statement __asyncpg_stmt_1__, but they are not the same.
        async with Connection(url) as conn:
            for turn in range(40):
                async with conn.transaction():
                    await conn.execute("update cached set n = n + 1 where id = $1", me)
                    row = await conn.fetchrow(f"select {me} as me, n, $2::text from cached where id = $1", me, f"{turn}")
                    assert tuple(row) == (me, turn + 1, f"{turn}")
                assert await conn.fetchval(f"select $1::int + {me}", turn) == turn + me

    await together(client)


@check
async def cache_smaller_than_the_statements(url):
    async with Connection(url, statement_cache_size=3) as conn:
        for turn in range(4):
            for number in range(8):
                assert await conn.fetchval(f"select {number} + $1::int", turn) == number + turn
    async with Connection(url, statement_cache_size=0) as conn:
        for turn in range(4):
            assert await conn.fetchval("select $1::int", turn) == turn


@check
async def prepared_statements_in_the_open(url):
    async def client(me):
        async with Connection(url) as conn:
            statement = await conn.prepare(f"select $1::int as a, {me} as b")
            assert [a.name for a in statement.get_attributes()] == ["a", "b"]
            assert [p.name for p in statement.get_parameters()] == ["int4"]
            for turn in range(20):
                assert tuple(await statement.fetchrow(turn)) == (turn, me)
            named = await conn.prepare("select 'named'", name="own")
            assert await named.fetchval() == "named"
            assert (await fails(asyncpg.DuplicatePreparedStatementError, conn.prepare("select 2", name="own"))) is not None
            assert await named.fetchval() == "named"

    await together(client)


@check
async def types_of_the_users_own(url):
    async with Connection(url) as conn:
        await conn.execute("create type mood as enum ('sad', 'glad')")
        await conn.execute("create type pair as (a int, b text)")
        await conn.execute("create domain small as int check (value < 10)")

    async def client(me):
        async with Connection(url) as conn:
            # The look at the types sets jit for the session and resets it.
            row = await conn.fetchrow("select $1::mood, $2::pair, $3::mood[], $4::small", "glad", (me, "x"), ["sad"], me)
            assert tuple(row) == ("glad", (me, "x"), ["sad"], me)
            await conn.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
            assert await conn.fetchval("select $1::json", {"me": me}) == {"me": me}
            assert await conn.fetchval("show jit") == jit

    async with Connection(url) as conn:
        jit = await conn.fetchval("show jit")
    await together(client)


@check
async def transactions_nest_by_savepoints(url):
    async with Connection(url) as conn:
        await conn.execute("create table nest (n int unique)")
        async with conn.transaction():
            await conn.execute("insert into nest values (1)")
            try:
                async with conn.transaction():
                    await conn.execute("insert into nest values (2)")
                    await conn.execute("insert into nest values (1)")
            except asyncpg.UniqueViolationError as error:
                assert error.constraint_name == "nest_n_key"
            async with conn.transaction():
                await conn.execute("insert into nest values (3)")
        assert [row["n"] for row in await conn.fetch("select n from nest order by n")] == [1, 3]
        async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
            assert await conn.fetchval("show transaction_isolation") == "serializable"
            assert await conn.fetchval("show transaction_read_only") == "on"
        assert await conn.fetchval("show transaction_isolation") == "read committed"


@check
async def errors_then_continue(url):
    async with Connection(url) as conn:
        for _ in range(3):
            await fails(asyncpg.DivisionByZeroError, conn.fetchval("select 1 / $1::int", 0))
            error = await fails(asyncpg.PostgresSyntaxError, conn.fetchval("selekt $1", 1))
            assert error.position == "1"
            await fails(asyncpg.UndefinedTableError, conn.execute("select * from nowhere; select 1"))
            assert await conn.fetchval("select 1 / $1::int", 1) == 1
        transaction = conn.transaction()
        await transaction.start()
        await fails(asyncpg.DivisionByZeroError, conn.fetchval("select 1 / $1::int", 0))
        await fails(asyncpg.InFailedSQLTransactionError, conn.fetchval("select 1"))
        await transaction.rollback()
        assert await conn.fetchval("select 1 / $1::int", 1) == 1


@check
async def executemany_is_one_transaction(url):
    async with Connection(url) as conn:
        await conn.execute("create table many (n int primary key, t text)")
        await conn.executemany("insert into many values ($1, $2)", [(n, "x" * 100) for n in range(3000)])
        again = conn.executemany("insert into many values ($1, $2)", [(9000, "x"), (1, "twice"), (9001, "x")])
        await fails(asyncpg.UniqueViolationError, again)
        assert await conn.fetchval("select count(*) from many") == 3000


@check
async def copy_in_and_out(url):
    async with Connection(url) as conn:
        await conn.execute("create table cp (who int, t text)")

    async def client(me):
        async with Connection(url) as conn:
            rows = [(me, f"row {n}") for n in range(3000)]
            assert await conn.copy_records_to_table("cp", records=rows) == "COPY 3000"
            out = bytearray()

            async def sink(data):
                out.extend(data)

            result = await conn.copy_from_query("select t from cp where who = $1", me, output=sink)
            assert result == "COPY 3000" and out.count(b"\n") == 3000
            bad = conn.copy_records_to_table("cp", records=[(me, "fine"), ("no number", "x")])
            await fails(TypeError, bad)
            bad = conn.copy_from_query("select 1 / (n - 500) from generate_series(1, 1000) n", output=sink)
            await fails(asyncpg.DivisionByZeroError, bad)
            assert await conn.fetchval("select count(*) from cp where who = $1", me) == 3000

    await together(client)


@check
async def cancel_by_timeout_and_by_task(url):
    async with Connection(url) as conn, Connection(url) as other:
        for _ in range(3):
            await fails(asyncio.TimeoutError, conn.fetchval("select pg_sleep(20)", timeout=0.5))
            assert await conn.fetchval("select 1") == 1
            task = asyncio.ensure_future(conn.fetchval("select pg_sleep($1)", 20))
            await asyncio.sleep(0.5)
            task.cancel()
            await fails(asyncio.CancelledError, task)
            # Nobody else is hit by what was meant for us.
            assert await other.fetchval("select 3 from pg_sleep(0.1)") == 3
            assert await conn.fetchval("select 2") == 2


@check
async def cursors(url):
    async def client(me):
        async with Connection(url) as conn:
            async with conn.transaction():
                total = 0
                async for row in conn.cursor("select n from generate_series(1, $1::int) n", 500, prefetch=50):
                    total += row["n"]
                assert total == 125250
                cursor = await conn.cursor("select n from generate_series(1, 100) n")
                assert len(await cursor.fetch(10)) == 10
                assert await cursor.forward(5) == 5
                assert (await cursor.fetchrow())["n"] == 16
                await conn.execute("declare own cursor for select generate_series(1, 9)")
                assert len(await conn.fetch("fetch 4 from own")) == 4

    await together(client)


@check
async def notifications(url):
    async with Connection(url) as ear, Connection(url) as mouth:
        heard = asyncio.Queue()
        await ear.add_listener("news", lambda _conn, _pid, channel, payload: heard.put_nowait((channel, payload)))
        await mouth.execute("select pg_notify('news', $1)", "first")
        async with mouth.transaction():
            await mouth.execute("notify news, 'second'")
        assert await asyncio.wait_for(heard.get(), 10) == ("news", "first")
        assert await asyncio.wait_for(heard.get(), 10) == ("news", "second")
        assert await ear.fetchval("select 5") == 5
        await ear.reset()
        await mouth.execute("notify news, 'third'")
        await ear.fetchval("select 1")
        assert heard.empty()


@check
async def settings_stay_with_their_client(url):
    async def client(me):
        settings = {"application_name": f"app {me}", "search_path": f"s{me}", "work_mem": f"{200 + me}kB"}
        async with Connection(url, server_settings=settings) as conn:
            for _ in range(10):
                for name, value in settings.items():
                    assert await conn.fetchval(f"show {name}") == value, name
                await conn.execute(f"set lock_timeout = {1001 + me}")
                assert await conn.fetchval("show lock_timeout") == f"{1001 + me}ms"
                await conn.execute("reset lock_timeout")
                assert await conn.fetchval("show lock_timeout") == "0"

    await together(client)


@check
async def pool_resets_what_its_users_set(url):
    async with asyncpg.create_pool(url, min_size=2, max_size=4) as pool:

        async def client(me):
            for turn in range(10):
                async with pool.acquire() as conn:
                    assert await conn.fetchval("show work_mem") == usual
                    await conn.execute(f"set work_mem = '{100 + me}kB'")
                    async with conn.transaction():
                        assert await conn.fetchval("show work_mem") == f"{100 + me}kB"
                    assert await conn.fetchval("select $1::int", turn) == turn

        usual = await pool.fetchval("show work_mem")
        await together(client, 8)


@check
async def reset_all_returns_to_the_startup_values(url):
    async def client(me):
        settings = {"application_name": f"app {me}", "search_path": f"s{me}", "work_mem": f"{200 + me}kB"}
        async with Connection(url, server_settings=settings) as conn:
            for _ in range(10):
                for name, value in settings.items():
                    assert await conn.fetchval(f"show {name}") == value, name
                await conn.execute(f"set lock_timeout = {1001 + me}")
                assert await conn.fetchval("show lock_timeout") == f"{1001 + me}ms"
                await conn.execute("reset all")
                assert await conn.fetchval("show lock_timeout") == "0"

    await together(client)


if __name__ == "__main__":
    run(globals())
