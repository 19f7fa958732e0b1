from django.contrib import admin
from django.urls import path

from . import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("function/", views.function),
    path("decorated-function/", views.decorated_function),
    path("permitted-function/", views.permitted_function),
    path("decorated-permitted-function/", views.decorated_permitted_function),
    path("template-function/", views.template_function),
    path("streaming-function/", views.streaming_function),
    path("exempt-function/", views.exempt_function),
    path("csrf-function/", views.csrf_function),
    path("class/", views.ClassView.as_view()),
    path("decorated-class/", views.DecoratedClassView.as_view()),
    path("decorated-method/", views.DecoratedMethodView.as_view()),
    path("rest/", views.RestView.as_view()),
    path("decorated-rest/", views.DecoratedRestView.as_view()),
    path("decorated-rest-method/", views.DecoratedMethodRestView.as_view()),
    path("viewset/", views.OrderViewSet.as_view({"post": "create"})),
    path("viewset-action/", views.OrderViewSet.as_view({"post": "extra"})),
    path("decorated-viewset/", views.DecoratedViewSet.as_view({"post": "create"})),
    path("decorated-viewset-action/", views.DecoratedViewSet.as_view({"post": "extra"})),
    path("decorated-create/", views.DecoratedMethodsViewSet.as_view({"post": "create"})),
    path("decorated-action/", views.DecoratedMethodsViewSet.as_view({"post": "extra"})),
    path("action-decorated/", views.DecoratedMethodsViewSet.as_view({"post": "other"})),
    path("rest-function/", views.rest_function),
    path("decorated-rest-function/", views.decorated_rest_function),
    path("outside-decorated-rest-function/", views.outside_decorated_rest_function),
    path("exempt-rest-function/", views.exempt_rest_function),
    path("permitted-rest/", views.PermittedRestView.as_view()),
    path("decorated-permitted-rest/", views.DecoratedPermittedRestView.as_view()),
    path("counted-rest/", views.CountedRestView.as_view()),
    path("drf-errors/", views.DrfErrorsView.as_view()),
    path("required/", views.RequiredView.as_view()),
    path("orders/", views.OrderModelViewSet.as_view({"get": "list", "post": "create"})),
]
