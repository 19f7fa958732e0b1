"""The orders of contract A, tested as a project tests its guarded views."""

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.urls import reverse
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient, APITestCase

from django_idempotency.test import advance, assert_idempotent, crash, lost_response

from .models import Order
from .views.vps import POLICY

ORDER = {"item": "backup"}


class OrdersTest(APITestCase):
    client: APIClient

    def setUp(self) -> None:
        token = Token.objects.create(user=get_user_model().objects.create_user("alice"))
        self.client.credentials(HTTP_AUTHORIZATION=f"Bearer {token.key}")

    def order(self) -> object:
        key = {"idempotency-key": "k"}
        return self.client.post(reverse("orders"), ORDER, format="json", headers=key)

    def test_an_order_is_idempotent(self) -> None:
        assert_idempotent(
            self.client,
            reverse("orders"),
            ORDER,
            format="json",
            creates=Order.objects.all(),
            policy=POLICY,
        )

    def test_a_crash_orders_nothing(self) -> None:
        with crash():
            self.order()
        self.assertEqual(Order.objects.count(), 0)
        self.order()
        self.assertEqual(Order.objects.count(), 1)

    def test_a_lost_response_orders_once(self) -> None:
        with lost_response():
            self.order()
        self.order()
        self.assertEqual(Order.objects.count(), 1)

    def test_a_key_lasts_a_day(self) -> None:
        self.order()
        advance(timedelta(hours=23))
        self.order()
        self.assertEqual(Order.objects.count(), 1)
        advance(timedelta(hours=2))
        self.order()
        self.assertEqual(Order.objects.count(), 2)
