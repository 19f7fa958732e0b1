"""``manage.py forget_idempotency_copies``: after a restore, or a failover that lost commits."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...conf.settings import configuration
from ...stores.base import Outage
from ...stores.cache.cached_database import forget_all
from ...stores.cache.local import is_local


class Command(BaseCommand):
    """Invalidates every copy of a completed record, in one step."""

    help = (
        "Invalidates all copies of completed records in the cache. Run it after the database was "
        "restored, or has failed over to a replica that may have lacked the last commits, and "
        "after every process has left the old database."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        cache = configuration().cache
        if cache is None:
            self.stdout.write(
                'IDEMPOTENCY["CACHE"] is not set, so there are no copies: every replay comes from '
                "the database. Nothing to do."
            )
            return
        if is_local(cache):
            raise CommandError(
                f'The cache "{cache}" is in the memory of each process: this command reaches none '
                "but its own. Restart the processes that serve requests."
            )
        try:
            forget_all(cache)
        except Outage as error:
            raise CommandError(
                f"{error}. Copies are still replayed: run the command again when the cache "
                "answers, before requests are let in."
            ) from error
        if options["verbosity"]:
            self.stdout.write(
                f'The copies in cache "{cache}" are forgotten: replays come from the database, and '
                'are copied anew. Records whose only place is that cache (STORE = "cache") are '
                "untouched."
            )
