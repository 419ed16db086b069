"""Runs Django's own tests and says of each how it went."""

from django.test.runner import DiscoverRunner

from python import Said


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Said
