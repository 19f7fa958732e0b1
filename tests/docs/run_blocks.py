"""Run the Python blocks of pages, each page in a namespace of its own; print what failed as JSON.

A program, because blocks may register what the tests' own process would keep: models, receivers,
checks. What a page takes for granted is in ``GRANTED``.
"""

import json
import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

GRANTED = """
import json
import os
from datetime import timedelta
from django.contrib.auth.decorators import login_required, permission_required
from django.db import models, transaction
from django.http import Http404, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import action, api_view
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet
from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.remember import (
    do_not_remember, never_replay_body, remember, remember_for,
)
"""
"""Imports that a reader knows from other blocks."""

SETTINGS = ("INSTALLED_APPS", "MIDDLEWARE")
"""Lists that a settings file of the reader's has already."""


def main(pages: list[str]) -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    os.environ.setdefault("IDEMPOTENCY_SECRET", "a secret of its own")
    os.environ.setdefault("IDEMPOTENCY_ENCRYPTION_KEYS", "k" * 43 + "=")
    django.setup()
    from tests.shop import models

    add_django_tasks()
    add_module("shop")
    add_module("shop.models", Order=models.Order)
    failed = {}
    for name in pages:
        error = run(name)
        if error:
            failed[name] = error
    print(json.dumps(failed))


def add_django_tasks() -> None:
    """Pages are about Django 6; before that there is a package with the same names."""
    if find_spec("django.tasks") is None:
        sys.modules["django.tasks"] = import_module("django_tasks")


def add_module(name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


def run(name: str) -> str:
    """Run a page's blocks in order; return the error, if there is one."""
    from tests.docs.pages import ROOT, run_block, runnable

    module = ModuleType("page")
    module.__dict__.update({setting: [] for setting in SETTINGS}, __package__="")
    sys.modules["page"] = module
    exec(GRANTED, vars(module))
    for code in runnable(ROOT / name, "python"):
        try:
            run_block(code, module, name)
        except Exception:
            return traceback.format_exc() + code
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
