"""Where Django's own tests find their databases, which are made already (runtests.py --keepdb)."""

import os


def database(name):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "NAME": name,
        "TEST": {"NAME": name},
    }


DATABASES = {
    "default": database(os.environ["PGDATABASE"]),
    "other": database(os.environ["PGDATABASE"] + "_other"),
}
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
TEST_RUNNER = "django_runner.Runner"
USE_TZ = False
