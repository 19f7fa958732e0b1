"""Links to the runbooks, where the project says that its documentation is."""

from typing import Any

from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from ..conf.settings import configuration


def address(name: str) -> str | None:
    """Return the address of a runbook, as in the alerts; ``None`` if no setting says where it is.

    :param name: such as ``outcome-unknown``
    """
    site = configuration().documentation
    return None if site is None else f"{site.rstrip('/')}/runbooks/{name}.html"


def explained(shown: Any, name: str | None) -> Any:
    """Return what is shown, with a link to what it means and what to do, if there is one.

    :param name: of a runbook
    """
    where = None if name is None else address(name)
    if where is None:
        return shown
    return format_html('{} &nbsp;<a href="{}">{}</a>', shown, where, _("What to do"))
