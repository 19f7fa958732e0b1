"""``python tests/support/elsewhere.py FOLDER``: a checkout without the package.

Tests that run there test the package that is installed.

``python -m pytest`` puts its own folder first on the path: next to the source it would test that.
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_BEHIND = (".*", "__pycache__", "*.egg-info", "build", "dist", "_build", "*.sqlite3*")


def copy(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    ignore = shutil.ignore_patterns(*LEFT_BEHIND, "django_idempotency")
    shutil.copytree(ROOT, folder, ignore=ignore)


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
