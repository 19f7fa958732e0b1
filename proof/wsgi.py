"""The experiments' project for gunicorn; ``PROOF_MUTANT`` plants a bug."""

import os

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

if os.environ.get("PROOF_MUTANT"):
    from proof.mutants import plant

    plant(os.environ["PROOF_MUTANT"])
