"""How applications listen with psycopg 3. Usage: psycopg3_listen.py DATABASE_URL"""

import asyncio
import threading

import psycopg
from psycopg import errors, sql

from checks import check, raises, run, say

# Long enough for whatever comes at all.
PATIENCE = 10


def connect(url, **arguments):
    return psycopg.connect(url, autocommit=True, **arguments)


def heard(conn, count):
    """Waits for a number of notifications."""
    notes = list(conn.notifies(timeout=PATIENCE, stop_after=count))
    return [(note.channel, note.payload) for note in notes]


def fence(conn, mouth):
    """Waits until all that was said before is there, and gives what came before."""
    mouth.execute("notify fence")
    notes = []
    for note in conn.notifies(timeout=PATIENCE):
        if note.channel == "fence":
            return notes
        notes.append((note.channel, note.payload))
    raise AssertionError("the fence is not heard")


@check
def one_channel_after_another(url):
    with connect(url) as ear, connect(url) as mouth:
        ear.execute("listen fence")
        ear.execute("listen news")
        mouth.execute("notify news, 'ü€'; notify other, 'unheard'")
        mouth.execute("select pg_notify('news', %s)", ("x" * 7999,))
        say([(channel, payload[:3], len(payload)) for channel, payload in fence(ear, mouth)])
        say(raises(errors.InvalidParameterValue, mouth.execute, "select pg_notify('news', %s)", ("x" * 8000,)).sqlstate)
        ear.execute(sql.SQL("listen {}").format(sql.Identifier("No. 1 of 'all'")))
        mouth.execute("select pg_notify(%s, '')", ("No. 1 of 'all'",))
        ear.execute("unlisten news")
        mouth.execute("notify news, 'late'")
        say(fence(ear, mouth))
        ear.execute("unlisten *")
        mouth.execute("notify fence")
        say(list(ear.notifies(timeout=0.2)), ear.execute("select 1").fetchone())


@check
def what_one_says_itself(url):
    with connect(url) as conn, connect(url) as other:
        conn.execute("listen news")
        conn.execute("notify news, 'mine'")
        other.execute("notify news, 'theirs'")
        notes = conn.notifies(timeout=PATIENCE, stop_after=2)
        say([(note.payload, note.pid == conn.info.backend_pid) for note in notes])


@check
def transactions(url):
    with psycopg.connect(url) as ear, connect(url) as mouth:
        ear.execute("listen fence")
        ear.commit()
        ear.execute("listen never")
        ear.rollback()
        ear.execute("listen news")
        ear.commit()
        mouth.execute("notify never")
        with mouth.transaction():
            for payload in ["a", "b", "a", "b"]:
                mouth.execute("select pg_notify('news', %s)", (payload,))
            mouth.execute("savepoint s; notify news, 'undone'; rollback to s")
        raises(errors.DivisionByZero, mouth.execute, "notify news, 'failed'; select 1/0")
        say(fence(ear, mouth))
        # Within a block, nothing is told.
        ear.execute("select 1")
        mouth.execute("notify news, 'in the block'")
        say(list(ear.notifies(timeout=0.2)))
        ear.commit()
        say(fence(ear, mouth))


@check
def handlers_hear_between_statements(url):
    with connect(url) as ear, connect(url) as mouth:
        seen = []
        ear.add_notify_handler(lambda note: seen.append((note.channel, note.payload)))
        ear.execute("listen news")
        ear.execute("listen fence")
        for number in range(200):
            mouth.execute("select pg_notify('news', %s)", (str(number),))
            ear.execute("select %s::int", (number,))
        mouth.execute("notify fence")
        while ("fence", "") not in seen:
            ear.execute("select 1 from pg_sleep(0.01)")
        say([payload for channel, payload in seen if channel == "news"] == [str(number) for number in range(200)])


@check
def workers_take_jobs(url):
    with connect(url) as boss:
        boss.execute("create table jobs (id int primary key, done bool not null default false)")
        boss.execute(
            "create function tell() returns trigger language plpgsql as "
            "$$ begin perform pg_notify('jobs', new.id::text); return new; end $$"
        )
        boss.execute("create trigger tell after insert on jobs for each row execute function tell()")

        def work():
            take = (
                "update jobs set done = true where id = "
                "(select id from jobs where not done order by id limit 1 for update skip locked) returning id"
            )
            with connect(url) as conn:
                conn.execute("listen jobs")
                ready.wait()
                while conn.execute("select count(*) from jobs where done").fetchone() != (40,):
                    if conn.execute(take).fetchone() is None:
                        list(conn.notifies(timeout=0.05, stop_after=1))

        ready = threading.Barrier(5)
        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        ready.wait()
        for number in range(40):
            boss.execute("insert into jobs (id) values (%s)", (number,))
        for worker in workers:
            worker.join(PATIENCE)
        say(boss.execute("select count(*), bool_and(done) from jobs").fetchone())


@check
async def coroutines(url):
    async with (
        await psycopg.AsyncConnection.connect(url, autocommit=True) as ear,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as mouth,
    ):
        await ear.execute("listen news")

        async def speak():
            for number in range(5):
                await mouth.execute("select pg_notify('news', %s)", (f"no. {number}",))

        speaker = asyncio.create_task(speak())
        said = [note.payload async for note in ear.notifies(timeout=PATIENCE, stop_after=5)]
        await speaker
        say(said)
        # The generator can be left, and another one goes on.
        await mouth.execute("notify news, 'again'")
        async for note in ear.notifies():
            say(note.payload)
            break
        cursor = await ear.execute("select 'a listener asks, too'")
        say(await cursor.fetchone())


if __name__ == "__main__":
    run(globals())
