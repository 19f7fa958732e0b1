"""All routes of the example: five contracts, a plain view, a webhook, a shop and the admin."""

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("login", LoginView.as_view(template_name="admin/login.html"), name="login"),
    path("", include("cloud.urls")),
]

if apps.is_installed("drf_spectacular"):
    from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView

    urlpatterns += [
        path("openapi", SpectacularAPIView.as_view(), name="openapi"),
        path("openapi/page", SpectacularRedocView.as_view(url_name="openapi")),
    ]

if apps.is_installed("django_idempotency.contrib.prometheus"):
    from .metrics import metrics

    urlpatterns += [path("metrics", metrics)]
