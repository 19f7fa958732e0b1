"""Diagrams as SVG: narrow enough for a phone, for light and dark, without files beside them."""

from dataclasses import dataclass, field
from html import escape

WIDTH = 420
STYLE = """\
    .ground { fill: #fff } .halo { stroke: #fff } .inside { stroke: #dbeafe }
    .line { stroke: #475569; stroke-width: 1.5; fill: none } .life { stroke: #94a3b8 }
    .box { fill: #f1f5f9; stroke: #475569 } .block { fill: #dbeafe; stroke: #1d4ed8 }
    .head { fill: #475569 } text { fill: #0f172a } .soft { fill: #475569 } .bad { fill: #b91c1c }
    .halo { stroke-width: 5; stroke-linejoin: round; paint-order: stroke }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #0f172a } .halo { stroke: #0f172a } .inside { stroke: #172554 }
      .line { stroke: #cbd5e1 } .life { stroke: #64748b }
      .box { fill: #1e293b; stroke: #cbd5e1 } .block { fill: #172554; stroke: #93c5fd }
      .head { fill: #cbd5e1 } text { fill: #f1f5f9 } .soft { fill: #cbd5e1 } .bad { fill: #fca5a5 }
    }"""


@dataclass
class Canvas:
    """Collects shapes from top to bottom."""

    below: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    y: int = 12

    def text(self, x: float, y: int, text: str, anchor: str = "middle", style: str = "") -> None:
        self.shapes.append(
            f'<text x="{x:g}" y="{y}" text-anchor="{anchor}"{style}>{escape(text)}</text>'
        )

    def box(self, x: float, y: int, width: float, height: int, kind: str = "box") -> None:
        self.shapes.append(
            f'<rect class="{kind}" x="{x:g}" y="{y}" width="{width:g}" height="{height}" rx="5"/>'
        )

    def arrow(self, path: str) -> None:
        self.shapes.append(f'<path class="line" d="{path}" marker-end="url(#a)"/>')

    def written(self, title: str, description: str) -> str:
        height = self.y + 12
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
                f' width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif"'
                ' font-size="13" role="img" aria-labelledby="t d">',
                f'  <title id="t">{escape(title)}</title>',
                f'  <desc id="d">{escape(description)}</desc>',
                f"  <style>\n{STYLE}\n  </style>",
                '  <defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
                ' markerHeight="8" orient="auto"><path class="head" d="M0 0 8 4 0 8z"/></marker>'
                "</defs>",
                f'  <rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>',
                *(f"  {shape}" for shape in [*self.below, *self.shapes]),
                "</svg>\n",
            ]
        )


@dataclass(frozen=True)
class Sequence:
    """Who tells whom what, in time.

    :param who: the columns
    :param steps: ``"a > b: what"`` is a message; ``"a: what"`` a note at a column, ``"a!: what"``
        one of a failure. Those from ``"["`` to ``"]"`` are one transaction
    """

    title: str
    description: str
    who: list[str]
    steps: list[str]

    def drawn(self) -> str:
        canvas = Canvas()
        gap = (WIDTH - 90) / (len(self.who) - 1)
        place = {name: 45 + gap * number for number, name in enumerate(self.who)}
        for name, x in place.items():
            canvas.box(x - 42, canvas.y, 84, 26)
            canvas.text(x, canvas.y + 18, name, style=' font-weight="600"')
        canvas.y += 40
        began, style = 0, "halo"
        for step in self.steps:
            if step == "[":
                began = canvas.y
                style = "halo inside"
                canvas.y += 6
            elif step == "]":
                height, style = canvas.y - began + 4, "halo"
                canvas.below.append(
                    f'<rect class="block" x="4" y="{began}" width="{WIDTH - 8}" height="{height}"'
                    ' rx="6"/>'
                )
                canvas.text(12, began + 16, "transaction", "start", ' class="soft" font-size="11"')
                canvas.y += 10
            else:
                draw(canvas, place, step, style)
        lines = [
            f'<path class="life" d="M{x:g} 38V{canvas.y}" stroke-dasharray="3 3"/>'
            for x in place.values()
        ]
        canvas.below.extend(lines)
        return canvas.written(self.title, self.description)


def draw(canvas: Canvas, place: dict[str, float], step: str, style: str) -> None:
    ends, _, label = step.partition(": ")
    first, _, other = ends.partition(" > ")
    if ends.endswith("!"):
        first, style = ends[:-1], f"{style} bad"
    middle = (place[first] + place[other or first]) / 2
    half = len(label) * 3.7 + 6
    canvas.text(
        min(max(middle, half), WIDTH - half), canvas.y + 14, label, style=f' class="{style}"'
    )
    canvas.y += 22
    if other:
        canvas.arrow(f"M{place[first]:g} {canvas.y}H{place[other]:g}")
        canvas.y += 10


@dataclass(frozen=True)
class Flow:
    """What follows what.

    :param stations: the name of each, what happens there, and where else it leads:
        ``"why: what"``, or ``"below: what"`` for what the next one gets
    """

    title: str
    description: str
    stations: list[tuple[str, str, list[str]]]

    def drawn(self) -> str:
        canvas = Canvas()
        for number, (name, what, others) in enumerate(self.stations):
            passed_on = [each[7:] for each in others if each.startswith("below: ")]
            exits = [each for each in others if not each.startswith("below: ")]
            height = max(44, 8 + 36 * len(exits))
            if number:
                canvas.arrow(f"M60 {canvas.y - 22}V{canvas.y - 1}")
            canvas.box(8, canvas.y, 238 if exits else WIDTH - 16, height)
            canvas.text(18, canvas.y + 18, name, "start", ' font-weight="600"')
            canvas.text(18, canvas.y + 36, what, "start", ' class="soft" font-size="12"')
            for place, (why, _, end) in enumerate(each.partition(": ") for each in exits):
                y = canvas.y + 22 + 36 * place
                canvas.arrow(f"M246 {y}H274")
                canvas.text(280, y - 1, end, "start", ' font-weight="600"')
                canvas.text(280, y + 14, why, "start", ' class="soft" font-size="12"')
            canvas.y += height + 22
            for text in passed_on:
                canvas.text(72, canvas.y - 7, text, "start", ' font-size="12"')
        canvas.y -= 22
        return canvas.written(self.title, self.description)
