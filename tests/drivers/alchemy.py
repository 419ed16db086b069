"""What applications do with SQLAlchemy, by each of its dialects. Usage: alchemy.py DATABASE_URL [CHECK…]"""

import asyncio
import datetime as dt
import decimal
import uuid
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.exc import DBAPIError, IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from checks import check, raises, run, say

# More clients than the proxy has servers.
CLIENTS = 6


class Base(orm.DeclarativeBase):
    pass


class Herd(Base):
    __tablename__ = "herd"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(unique=True)
    version: orm.Mapped[int] = orm.mapped_column()
    animals: orm.Mapped[list["Animal"]] = orm.relationship(back_populates="herd", cascade="all, delete-orphan")
    __mapper_args__ = {"version_id_col": version}


class Animal(Base):
    __tablename__ = "animal"
    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(), primary_key=True)
    herd_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("herd.id"))
    herd: orm.Mapped[Herd] = orm.relationship(back_populates="animals")
    name: orm.Mapped[str]
    born: orm.Mapped[dt.datetime] = orm.mapped_column(sa.DateTime(timezone=True))
    price: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(10, 2))
    token: orm.Mapped[uuid.UUID]
    marks: orm.Mapped[list[str]] = orm.mapped_column(pg.ARRAY(sa.Text))
    about: orm.Mapped[dict] = orm.mapped_column(pg.JSONB)
    photo: orm.Mapped[bytes | None]
    kind: orm.Mapped[str] = orm.mapped_column(pg.ENUM("cow", "goat", name="kind"))
    fed: orm.Mapped[dt.timedelta | None]


def animal(number, **more):
    return Animal(
        name=f"animal {number}",
        born=dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone.utc) + dt.timedelta(days=number),
        price=decimal.Decimal("9.99") * number,
        token=uuid.UUID(int=number),
        marks=["a", f"ü{number}", 'x"y'],
        about={"n": number, "deep": [None, {"k": True}]},
        photo=bytes([number % 256, 0, 255]),
        kind="goat" if number % 2 else "cow",
        fed=dt.timedelta(hours=number),
        **more,
    )


def code(error):
    """Gives the SQLSTATE, by whatever name a driver has for it."""
    cause = error.orig
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def engine(url, **more):
    return sa.create_engine(url.replace("postgres://", "postgresql+psycopg://"), **more)


def async_engine(url, **more):
    return create_async_engine(url.replace("postgres://", "postgresql+asyncpg://"), **more)


def each_way(function):
    """Makes a check of a function of a connection that is run by all three ways to the database."""

    def by_all(url):
        for dialect in ["psycopg", "psycopg2"]:
            own = sa.create_engine(url.replace("postgres://", f"postgresql+{dialect}://"))
            with own.connect() as conn:
                function(conn)
            own.dispose()

        async def by_asyncpg():
            own = async_engine(url)
            async with own.connect() as conn:
                await conn.run_sync(function)
            await own.dispose()

        asyncio.run(by_asyncpg())

    by_all.__name__ = function.__name__
    return check(by_all)


@each_way
def tables_are_made_and_seen(conn):
    with conn.begin():
        Base.metadata.drop_all(conn)
        Base.metadata.create_all(conn)
        # Once more makes nothing.
        Base.metadata.create_all(conn)
    found = sa.inspect(conn)
    say(sorted(found.get_table_names()), found.get_foreign_keys("animal")[0]["referred_table"])
    say([(column["name"], str(column["type"])) for column in found.get_columns("animal")])
    conn.rollback()
    with conn.begin():
        copy = sa.MetaData()
        copy.reflect(conn)
        say(sorted(copy.tables), conn.dialect.server_version_info >= (12,))


@each_way
def objects_and_their_relations(conn):
    with conn.begin():
        Base.metadata.drop_all(conn)
        Base.metadata.create_all(conn)
    with orm.Session(conn) as session:
        # Many rows in few statements, with the keys that the server made.
        session.add(Herd(name="north", animals=[animal(n) for n in range(60)]))
        session.add(Herd(name="south", animals=[animal(n) for n in range(3)]))
        session.commit()
        herd = session.scalars(
            sa.select(Herd).where(Herd.name == "north").options(orm.selectinload(Herd.animals))
        ).one()
        say(len(herd.animals), herd.version, sorted(one.id for one in herd.animals)[-1])
        one = session.scalars(sa.select(Animal).where(Animal.about["n"].as_integer() == 7).limit(1)).one()
        say(one.name, one.born, one.price, one.token, one.marks, one.about, one.photo, one.kind, one.fed)
        goats = sa.select(Herd.name, sa.func.count(), sa.func.sum(Animal.price)).join(Herd.animals)
        say(session.execute(goats.where(Animal.kind == "goat").group_by(Herd.name).order_by(Herd.name)).all())
        herd.name = "far north"
        del herd.animals[10:]
        session.commit()
        say(session.scalar(sa.select(sa.func.count(Animal.id))), herd.version)


@each_way
def sessions_commit_roll_back_and_nest(conn):
    with conn.begin():
        Base.metadata.drop_all(conn)
        Base.metadata.create_all(conn)
    with orm.Session(conn) as session:
        with session.begin():
            session.add(Herd(name="one"))
            session.flush()
            try:
                with session.begin_nested():
                    session.add(Herd(name="one"))
            except IntegrityError as error:
                say(code(error))
            with session.begin_nested() as inner:
                session.add(Herd(name="two"))
                session.flush()
                inner.rollback()
            session.add(Herd(name="three"))
        say(session.scalars(sa.select(Herd.name).order_by(Herd.id)).all())
        session.add(Herd(name="one"))
        say(code(raises(IntegrityError, session.flush)))
        session.rollback()
        say(session.scalar(sa.select(sa.func.count(Herd.id))))


@each_way
def rows_in_parts(conn):
    many = sa.text("select n, repeat('x', 200) from generate_series(1, :last) n")
    with conn.begin():
        seen = conn.execution_options(yield_per=100).execute(many, {"last": 2500})
        say(sum(row.n for part in seen.partitions() for row in part))
    conn.execution_options(yield_per=None, stream_results=False)
    with conn.begin():
        streamed = conn.execution_options(stream_results=True).execute(many, {"last": 500})
        say(streamed.fetchmany(3)[-1].n)
        # The rest is left where it is.
        streamed.close()
        say(conn.execute(sa.text("select 5")).scalar())


@each_way
def values_by_core(conn):
    table = sa.Table("values_", sa.MetaData(), sa.Column("n", sa.BigInteger), sa.Column("t", sa.Text, unique=True))
    with conn.begin():
        table.drop(conn, checkfirst=True)
        table.create(conn)
        conn.execute(table.insert(), [{"n": n, "t": f"row {n}"} for n in range(1500)])
        more = pg.insert(table).values(n=2**60, t="row 5")
        more = more.on_conflict_do_update(index_elements=["t"], set_={"n": more.excluded.n})
        say(conn.execute(more.returning(table.c.n)).scalar())
        say(conn.execute(sa.select(sa.func.count()).select_from(table).where(table.c.n > 10)).scalar())
        say(conn.execute(table.update().where(table.c.n < 3).values(t=table.c.t + "!")).rowcount)
    for wrong, values in [("select 1 / :n", {"n": 0}), ("selekt", {}), ("select * from nowhere", {})]:
        say(code(raises(DBAPIError, conn.execute, sa.text(wrong), values)))
        conn.rollback()


@check
def levels_and_settings(url):
    own = engine(url, isolation_level="REPEATABLE READ", connect_args={"options": "-c timezone=Asia/Tokyo"})
    with own.connect() as conn:
        say(conn.execute(sa.text("show transaction_isolation")).scalar(), conn.get_isolation_level())
        say(conn.execute(sa.text("show timezone")).scalar())
    with own.connect().execution_options(
        isolation_level="SERIALIZABLE", postgresql_readonly=True, postgresql_deferrable=True
    ) as conn:
        for name in ["transaction_isolation", "transaction_read_only", "transaction_deferrable"]:
            say(conn.execute(sa.text(f"show {name}")).scalar())
    with own.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        say(conn.execute(sa.text("vacuum")).rowcount)
        say(conn.execute(sa.text("set work_mem = '3MB'")).rowcount, conn.execute(sa.text("show work_mem")).scalar())
    own.dispose()


@check
def a_pool_of_the_applications_own(url):
    own = engine(url, pool_size=3, max_overflow=1, pool_pre_ping=True)
    with own.begin() as conn:
        conn.execute(sa.text("create table counted (id int primary key, n int not null)"))
        conn.execute(sa.text("insert into counted select i, 0 from generate_series(0, 5) i"))

    def client(me):
        for turn in range(15):
            with own.begin() as conn:
                conn.execute(sa.text("update counted set n = n + 1 where id = :me"), {"me": me})
                row = conn.execute(sa.text("select n, :me + 1 from counted where id = :me"), {"me": me}).one()
                assert tuple(row) == (turn + 1, me + 1), row
        return turn

    with ThreadPoolExecutor(CLIENTS) as threads:
        say(list(threads.map(client, range(CLIENTS))))
    own.dispose()


@check
async def tasks_share_an_engine(url):
    own = async_engine(url, pool_size=2, max_overflow=0)
    async with own.begin() as conn:
        await conn.run_sync(Base.metadata.drop_all)
        await conn.run_sync(Base.metadata.create_all)

    async def client(me):
        for turn in range(8):
            async with AsyncSession(own, expire_on_commit=False) as session:
                herd = Herd(name=f"{me}.{turn}", animals=[animal(n) for n in range(4)])
                session.add(herd)
                await session.commit()
                streamed = await session.stream_scalars(sa.select(Animal).where(Animal.herd_id == herd.id))
                names = sorted([one.name async for one in streamed])
                assert names == [f"animal {n}" for n in range(4)], names
        return turn

    say(await asyncio.gather(*(client(me) for me in range(CLIENTS))))
    async with AsyncSession(own) as session:
        say(await session.scalar(sa.select(sa.func.count(Animal.id))))
    await own.dispose()


@check
async def a_statement_that_takes_too_long(url):
    own = async_engine(url, connect_args={"server_settings": {"statement_timeout": "200"}})
    async with own.connect() as conn:
        try:
            await conn.execute(sa.text("select pg_sleep(20)"))
        except DBAPIError as error:
            say(code(error))
        await conn.rollback()
        say(await conn.scalar(sa.text("show statement_timeout")))
    async with own.connect() as conn:
        task = asyncio.ensure_future(conn.execute(sa.text("select pg_sleep(20)")))
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            say("cancelled")
    async with own.connect() as conn:
        say(await conn.scalar(sa.text("select 7")))
    await own.dispose()


@check
def a_changed_table_behind_the_cache(url):
    own = engine(url, connect_args={"prepare_threshold": 1})
    with own.connect() as conn, own.connect() as other:
        conn.execute(sa.text("create table shape (a int)"))
        conn.execute(sa.text("insert into shape values (1)"))
        conn.commit()
        for _ in range(4):
            conn.execute(sa.text("select * from shape where a > :n"), {"n": 0}).all()
            conn.commit()
        other.execute(sa.text("alter table shape add b int default 7"))
        other.commit()
        # Postgres refuses a plan whose rows changed; how an application goes on is its own affair.
        for _ in range(2):
            try:
                say(conn.execute(sa.text("select a from shape where a > :n"), {"n": 0}).all())
            except DBAPIError as error:
                say(code(error))
            conn.rollback()
    own.dispose()


@check
def work_goes_on_after_the_server_was_lost(url):
    own, killer = engine(url, pool_pre_ping=True), engine(url, isolation_level="AUTOCOMMIT")
    with own.begin() as conn:
        conn.execute(sa.text("create table lost (n int)"))
    with orm.Session(own) as session, killer.connect() as other:
        session.execute(sa.text("insert into lost values (1)"))
        pid = session.execute(sa.text("select pg_backend_pid()")).scalar()
        say(other.execute(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid}).scalar())
        error = raises(DBAPIError, session.execute, sa.text("insert into lost values (2)"))
        assert code(error) in ("57P01", "40001", None), code(error)
        # What is not rolled back goes no further.
        try:
            session.execute(sa.text("insert into lost values (3)"))
            say("went on")
        except (DBAPIError, PendingRollbackError):
            say("refused")
        session.rollback()
        session.execute(sa.text("insert into lost values (4)"))
        session.commit()
        say(session.execute(sa.text("select * from lost")).all())
    own.dispose()
    killer.dispose()


if __name__ == "__main__":
    run(globals())
