"""Pictures of pages for the documentation, as small files."""

import io
import os
from pathlib import Path
from typing import Any

IMAGES = os.environ.get("IDEMPOTENCY_TEST_IMAGES")
"""Where to put them, if they are wanted (``make images``)."""

COLOURS = 256
"""A page of the admin has hardly more, and those on the edges of letters."""


def keep(page: Any, name: str, height: int | None = None) -> None:
    """Write a picture of what a browser shows, with a palette.

    :param name: of the file, without its suffix
    :param height: of the window, in pixels; by default the one that it has
    """
    from PIL import Image

    if height:
        page.set_viewport_size({**page.viewport_size, "height": height})
    page.mouse.move(0, 0)
    shown = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    palette = shown.quantize(COLOURS, dither=Image.Dither.NONE)
    palette.save(Path(str(IMAGES)) / f"{name}.png", optimize=True)
