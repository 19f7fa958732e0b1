"""What ``run_idempotent_work`` does: kinds of work, and when it stops."""
