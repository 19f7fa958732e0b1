"""The WSGI application. It serves the admin's static files too, so no other server is needed."""

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = StaticFilesHandler(get_wsgi_application())
