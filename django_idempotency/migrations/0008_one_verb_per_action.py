from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("django_idempotency", "0007_csrf_token"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="idempotencyrecord",
            options={
                "permissions": [
                    ("view_response", "Can view stored responses"),
                    ("discard_idempotencyrecord", "Can discard interrupted records"),
                    ("evict_idempotencyrecord", "Can evict records"),
                    ("purge_idempotencyrecord", "Can purge expired records"),
                    ("settle_idempotencyrecord", "Can settle operations of unknown outcome"),
                ],
                "verbose_name": "idempotency record",
                "verbose_name_plural": "idempotency records",
            },
        ),
    ]
