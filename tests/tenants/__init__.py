"""A project with django-tenants: each tenant has a schema of PostgreSQL, with users, orders and
records of its own."""
