"""The test project as an ASGI application; see :mod:`tests.support.wsgi` for what views do."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()

from tests.shop import views  # noqa: E402  (the apps must be ready)
from tests.support.wsgi import hang_if_told  # noqa: E402

views.after_write = hang_if_told
