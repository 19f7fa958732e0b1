"""Files that say what is expected. ``IDEMPOTENCY_TEST_REGENERATE=1`` writes them anew."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def expect(file: Path, text: str) -> None:
    """Compare a text with a file."""
    if os.environ.get("IDEMPOTENCY_TEST_REGENERATE"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    hint = f"{file.name} is not current. IDEMPOTENCY_TEST_REGENERATE=1 writes it anew; look at it."
    assert file.read_text(encoding="utf-8") == text, hint
