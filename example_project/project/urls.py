"""All routes of the example: five contracts, a plain Django view and the admin."""

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("login", LoginView.as_view(template_name="admin/login.html"), name="login"),
    path("", include("cloud.urls")),
]
