"""``{% load idempotency %}``: the key of a form."""

from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.utils.safestring import SafeString

from ..keys import idempotency_key_input

register = template.Library()


@register.simple_tag(takes_context=True)
def idempotency_key(context: Any, **given: Any) -> SafeString:
    """Write the hidden field with the key of a form, inside its ``<form>``.

    ``{% idempotency_key %}`` makes a new key for each page, ``{% idempotency_key for=cart.pk %}``
    one for each thing. ``name="..."`` tells apart the forms of one page, and ``fresh=True`` is for
    a form that follows one that was carried out.
    """
    request = context.get("request")
    if request is None:
        raise ImproperlyConfigured(
            "{% idempotency_key %} needs the request. Render the template with it, as render() "
            'does, and add "django.template.context_processors.request" to the context_processors '
            "of TEMPLATES."
        )
    named = {each: given.pop(each) for each in ("name", "fresh") if each in given}
    if not given:
        return idempotency_key_input(request, **named)
    if "for" not in given:
        raise ImproperlyConfigured(
            f"{{% idempotency_key %}} does not know {', '.join(sorted(given))}: it takes name=, "
            "fresh=, and for= with further values beside it."
        )
    thing = given.pop("for")
    # None would be no value at all, and empty text is refused.
    return idempotency_key_input(request, "" if thing is None else thing, **named, **given)
