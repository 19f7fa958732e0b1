"""``create_account``: an account with all its credentials, printed as JSON."""

import json
import secrets
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from rest_framework.authtoken.models import Token

from ...models import ApiKey


class Command(BaseCommand):
    help = "Create accounts and print their credentials as one JSON object by name."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="+")
        parser.add_argument("--admin", action="store_true", help="may use the admin")

    def handle(self, *, names: list[str], admin: bool, **options: Any) -> None:
        self.stdout.write(json.dumps({name: self._create(name, admin) for name in names}))

    def _create(self, name: str, admin: bool) -> dict[str, Any]:
        password = secrets.token_urlsafe(12)
        users = get_user_model().objects
        create = users.create_superuser if admin else users.create_user
        user = create(name, password=password)
        return {
            "name": name,
            "password": password,
            "token": Token.objects.create(user=user).key,
            "api_keys": [ApiKey.issue(user), ApiKey.issue(user)],
        }
