"""What became of an operation: an endpoint for clients, with Django REST framework."""
