"""What applications do with Django's ORM. Usage: django_orm.py DATABASE_URL"""

import datetime as dt
import decimal
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import django
from django.conf import settings

from checks import check, raises, run, say

# More clients than the proxy has servers.
CLIENTS = 6

place = urlsplit(sys.argv[1])


def database(**options):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": place.path[1:],
        "USER": place.username,
        "PASSWORD": place.password,
        "HOST": place.hostname,
        "PORT": place.port,
        **options,
    }


settings.configure(
    DATABASES={
        "default": database(),
        # What stays connected, with a health check before each request.
        "kept": database(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True, TIME_ZONE="Asia/Tokyo"),
        "careful": database(OPTIONS={"isolation_level": 3, "server_side_binding": True}),
    },
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.postgres", "farm"],
    USE_TZ=True,
    TIME_ZONE="Europe/Paris",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)

django.setup()

# Django's rule: nothing of an application is imported before this.
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, connections, models, transaction  # noqa: E402
from django.db.utils import DatabaseError, DataError, IntegrityError, OperationalError  # noqa: E402

from farm.models import Animal, Herd  # noqa: E402


def together(function):
    """Calls a function in threads, each with a connection of its own, with 0, 1, …"""

    def once(me):
        try:
            return function(me)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(CLIENTS) as threads:
        return list(threads.map(once, range(CLIENTS)))


def animal(number, herd, **more):
    return Animal(
        token=uuid.UUID(int=number),
        herd=herd,
        born=dt.datetime(2024, 2, 28, 23, 30, tzinfo=dt.timezone.utc) + dt.timedelta(days=number),
        day=dt.date(2024, 2, 29),
        price=decimal.Decimal("1.25") * number,
        about={"n": number, "deep": [None, {"k": "ü"}]},
        marks=[f"m{number}", 'x"y'],
        years=(number, number + 2),
        photo=bytes([number % 256, 0]),
        fed=dt.timedelta(hours=number),
        **more,
    )


@check
def migrations_go_up_and_down(url):
    for target in [[], ["farm", "0001"], ["farm"], ["farm", "zero"], []]:
        call_command("migrate", *target, verbosity=0)
        with connection.cursor() as cursor:
            tables = connection.introspection.table_names(cursor)
            say(len(tables), [name for name in tables if name.startswith("farm")])
    with connection.cursor() as cursor:
        say(sorted(connection.introspection.get_constraints(cursor, "farm_animal")))
    say(call_command("migrate", check_unapplied=True, verbosity=0), list(Herd.objects.values_list("name", flat=True)))


@check
def objects_and_queries(url):
    herd = Herd.objects.create(name="north", size=3)
    made = Animal.objects.bulk_create((animal(n, herd) for n in range(1200)), batch_size=500)
    made[3].friends.add(made[4], made[5])
    one = Animal.objects.select_related("herd").prefetch_related("friends").get(pk=uuid.UUID(int=3))
    say(one.herd.name, sorted(friend.pk.int for friend in one.friends.all()))
    say(one.born, one.day, one.price, one.about, one.marks, one.years, bytes(one.photo), one.fed)
    say(
        Animal.objects.filter(about__deep__1__k="ü", marks__contains=["m7"]).count(),
        Animal.objects.filter(born__date=dt.date(2024, 2, 29)).count(),
        Animal.objects.filter(years__contains=100).count(),
        Animal.objects.aggregate(models.Sum("price"), models.Avg("fed")),
    )
    say(Animal.objects.filter(pk__in=[one.pk for one in made[:50]]).update(price=models.F("price") + 1))
    say(Herd.objects.annotate(n=models.Count("animals")).values_list("name", "n").order_by("name"))
    say(Herd.objects.get_or_create(name="north")[1], Herd.objects.update_or_create(name="x", defaults={"size": 9})[1])
    say(Herd.objects.bulk_create([Herd(name="x", size=5)], update_conflicts=True, unique_fields=["name"], update_fields=["size"]))
    say(Herd.objects.get(name="x").size, Animal.objects.filter(price__gt=1400).delete()[0])


@check
def many_rows_by_a_cursor_on_the_server(url):
    # Outside a transaction it is WITH HOLD; an iterator that is left is closed.
    say(sum(one.price for one in Animal.objects.iterator(chunk_size=100)))
    for one in Animal.objects.order_by("token").iterator(chunk_size=10):
        break
    with transaction.atomic():
        rows = Animal.objects.order_by("token").values_list("token", flat=True).iterator(chunk_size=50)
        first = next(rows)
        say(first, Herd.objects.count(), len(list(rows)))
    connection.close()


@check
def atomic_blocks(url):
    def names():
        return sorted(Herd.objects.filter(name__startswith="a").values_list("name", flat=True))

    done = []
    with transaction.atomic():
        Herd.objects.create(name="a1")
        transaction.on_commit(lambda: done.append("committed"))
        try:
            with transaction.atomic():
                Herd.objects.create(name="a2")
                Herd.objects.create(name="a1")
        except IntegrityError as error:
            say(error.__cause__.sqlstate)
        place = transaction.savepoint()
        Herd.objects.create(name="a3")
        transaction.savepoint_rollback(place)
        Herd.objects.create(name="a4")
    say(names(), done)
    try:
        with transaction.atomic():
            Herd.objects.create(name="a5")
            raise KeyError
    except KeyError:
        say(names())
    herd = Herd.objects.get(name="a1")
    say(raises(IntegrityError, Animal.objects.create, **debt(herd)).__cause__.diag.constraint_name)
    say(raises(DataError, Herd.objects.create, name="x" * 41).__cause__.sqlstate, Herd.objects.filter(name="a1").exists())


def debt(herd):
    return {"token": uuid.uuid4(), "herd": herd, "born": dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc), "price": -1}


@check
def rows_are_locked_for_their_counter(url):
    herd = Herd.objects.create(name="counter", size=0)

    def client(me):
        for _ in range(6):
            with transaction.atomic():
                one = Herd.objects.select_for_update().get(pk=herd.pk)
                one.size += 1
                one.save(update_fields=["size"])
        return User.objects.filter(username=f"user {me}").exists()

    say(together(client), Herd.objects.get(pk=herd.pk).size)
    with transaction.atomic():
        Herd.objects.select_for_update().get(pk=herd.pk)

        def refused(me):
            with transaction.atomic():
                return raises(OperationalError, Herd.objects.select_for_update(nowait=True).get, pk=herd.pk)

        say({error.__cause__.sqlstate for error in together(refused)})


@check
def users_log_in(url):
    def client(me):
        user = User.objects.create_user(f"user {me}", password="secret")
        user.set_unusable_password()
        user.save()
        return User.objects.get(username=f"user {me}").date_joined.tzname(), User.objects.filter(pk=user.pk).count()

    say(together(client))


@check
def kept_connections_and_their_zones(url):
    kept, careful = connections["kept"], connections["careful"]
    for _ in range(3):
        with kept.cursor() as cursor, connection.cursor() as usual:
            for one in [cursor, usual]:
                one.execute("select current_setting('timezone'), %s", ["x"])
                say(one.fetchone())
        kept.close_if_unusable_or_obsolete()
    connections.close_all()
    with careful.cursor() as cursor:
        cursor.execute("select current_setting('transaction_isolation'), %s::int", [5])
        say(cursor.fetchone())
        cursor.execute("select %s::jsonb, %s", ['{"a": 1}', b"\0x"])
        say(cursor.fetchone())
    say(list(Herd.objects.using("careful").filter(name__startswith="a").values_list("name", "size").order_by("name")))
    connections.close_all()


@check
def a_statement_that_takes_too_long(url):
    with connection.cursor() as cursor:
        cursor.execute("set statement_timeout = '150ms'")
        say(raises(OperationalError, cursor.execute, "select pg_sleep(20)").__cause__.sqlstate)
        cursor.execute("reset statement_timeout")
        threading.Timer(0.3, connection.connection.cancel).start()
        say(raises(OperationalError, cursor.execute, "select pg_sleep(20)").__cause__.sqlstate)
        cursor.execute("select 5")
        say(cursor.fetchone())
    connection.close()


@check
def work_goes_on_after_the_server_was_lost(url):
    kept = connections["kept"]
    try:
        with transaction.atomic(using="kept"):
            Herd.objects.using("kept").create(name="lost")
            with kept.cursor() as cursor:
                cursor.execute("select pg_backend_pid()")
                pid = cursor.fetchone()[0]
            with connection.cursor() as killer:
                killer.execute("select pg_terminate_backend(%s, 5000)", [pid])
                say(killer.fetchone())
            Herd.objects.using("kept").count()
    except DatabaseError as error:
        assert error.__cause__.sqlstate in ("57P01", "40001", None), error.__cause__.sqlstate
    # So it is at the end of each request.
    kept.close_if_unusable_or_obsolete()
    Herd.objects.using("kept").create(name="found")
    say(list(Herd.objects.filter(name__in=["lost", "found"]).values_list("name", flat=True)))
    connections.close_all()


if __name__ == "__main__":
    run(globals())
