"""The parts of a self-contained HTML page: frame, tables, figures, pictures.

Functions that end in markup take plain text and escape it, except where an argument is called
``markup``.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape as escape
from pathlib import Path
from typing import Any

from wgan.run import DamagedError

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f7f8fa; --ink: #1f2430;
  --muted: #6b7280; --line: #e5e7eb; --real: #9aa1ab; --mark: #fff4d6; --series-0: #0072b2;
  --series-1: #d55e00; --series-2: #009e73; --series-3: #b0579a; --series-4: #b88600;
  --series-5: #3a9bd9 }
@media (prefers-color-scheme: dark) { :root { --page: #14161b; --card: #1c1f26; --ink: #e6e8ec;
  --muted: #9aa3af; --line: #2e333d; --real: #7d8591; --mark: #3a3320; --series-0: #56b0ec;
  --series-1: #ff9350; --series-2: #35cfa0; --series-3: #e29aca; --series-4: #edb93c;
  --series-5: #9bd4ff } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 48px }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; padding-top: 1.1rem;
  border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.3rem 0 .4rem; overflow-wrap: anywhere }
p { max-width: 46em; margin: .4rem 0 .9rem }
.lead { font-size: 1.08rem }
.note, figcaption, footer { color: var(--muted); font-size: .9rem }
code { font: .88em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 1.1rem 0 }
.tiles div { background: var(--card); border-radius: 10px; padding: 10px 14px }
.tiles b { display: block; font-size: 1.3rem; font-weight: 600; line-height: 1.3 }
.tiles span { color: var(--muted); font-size: .85rem }
.figures { display: grid; gap: 26px 30px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)) }
.figures.alone { max-width: 520px }
.figures.full { grid-template-columns: 1fr }
.sheets { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(46%, 220px), 1fr)) }
figure { margin: 0; min-width: 0 }
figure strong { display: block; color: var(--ink); font-weight: 600; margin-bottom: 4px }
figcaption { margin-top: 4px }
.paper { --ink: #1f2430; --muted: #6b7280; --line: #e5e7eb; --series-0: #0072b2;
  --series-1: #d55e00; --series-3: #b0579a; background: #fff; border-radius: 6px; padding: 8px }
svg { display: block; width: 100%; height: auto }
svg text { font-family: inherit !important }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: #fff }
.scroll { overflow-x: auto; margin: .6rem 0 1rem }
table { border-collapse: collapse; font-size: .92rem }
th, td { text-align: left; vertical-align: top; padding: 6px 18px 6px 0;
  border-bottom: 1px solid var(--line); max-width: 34em; overflow-wrap: break-word }
th { font-weight: 600 } thead th { color: var(--muted); font-size: .85rem }
td:last-child:not(.number) { min-width: 13em }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap }
tr.differs th, tr.differs td { background: var(--mark) }
summary { cursor: pointer; color: var(--muted); font-size: .92rem }
@media (max-width: 600px) { main { padding: 18px 14px 36px } h1 { font-size: 1.4rem }
  th, td { padding-right: 12px } }
"""


def page(title: str, markup: str) -> str:
    """A whole document around the body's markup."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{markup}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *markup: str) -> str:
    """A heading and what stands under it; nothing at all where nothing stands."""
    body = "\n".join(part for part in markup if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text; what stands between backticks is code."""
    attribute = f' class="{kind}"' if kind else ""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return f"<p{attribute}>{marked}</p>"


def folded(title: str, markup: str) -> str:
    """Markup that shows when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{markup}</details>"


def tiles(numbers: Iterable[tuple[str, str]]) -> str:
    """Large numbers with a small name under each: pairs of name and number."""
    each = "".join(
        f"<div><b>{escape(n)}</b><span>{escape(name)}</span></div>" for name, n in numbers
    )
    return f'<div class="tiles">{each}</div>'


def figure(markup: str, title: str, note: str = "") -> str:
    """A picture with its title above and a note below."""
    below = f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f"<figure><strong>{escape(title)}</strong>{markup}{below}</figure>"


def figures(each: Sequence[str], kind: str = "figures") -> str:
    """Figures side by side as the width allows; nothing for none."""
    if not each:
        return ""
    alone = " alone" if len(each) == 1 and kind == "figures" else ""
    return f'<div class="{kind}{alone}">\n' + "\n".join(each) + "\n</div>"


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], marked: Iterable[int] = ()
) -> str:
    """A table whose first column names the rows; numbers keep their digits in line.

    Args:
        header: Names of the columns.
        rows: Cells, shown by :func:`plain`.
        marked: Numbers of the rows to set off.
    """
    marked = set(marked)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = []
    for i, (name, *cells) in enumerate(rows):
        shown = "".join(
            f'<td class="number">{escape(plain(cell))}</td>'
            if isinstance(cell, int | float) and not isinstance(cell, bool)
            else f"<td>{escape(plain(cell))}</td>"
            for cell in cells
        )
        kind = ' class="differs"' if i in marked else ""
        lines.append(f'<tr{kind}><th scope="row">{escape(plain(name))}</th>{shown}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def picture(path: Path, name: str, *, most_bytes: int) -> str:
    """An image file as an ``<img>`` element that holds it, made smaller until it fits.

    Args:
        path: The file, in a format that Pillow reads.
        name: What it shows, for readers who cannot see it.
        most_bytes: The size that it should not exceed, before base64.

    Raises:
        DamagedError: The file is not a picture, or cut short.
    """
    from PIL import Image, UnidentifiedImageError

    content, kind = path.read_bytes(), "png"
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
            if len(content) > most_bytes:
                kind = "jpeg"
                colour = image.convert("RGB")
                for side in (1000, 800, 640, 480, 360):
                    smaller = colour.copy()
                    smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
                    buffer = io.BytesIO()
                    smaller.save(buffer, format="jpeg", quality=86, optimize=True)
                    content = buffer.getvalue()
                    if len(content) <= most_bytes:
                        break
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DamagedError(f"{path} is damaged: not a whole picture ({error})") from None
    data = base64.b64encode(content).decode()
    return (
        f'<img src="data:image/{kind};base64,{data}" alt="{escape(name)}" '
        f'width="{width}" height="{height}">'
    )


def plain(value: object) -> str:
    """A setting or a measurement as a reader would write it."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        # Several numbers to a part, as in a list of mappings, need more than commas between parts.
        between = "; " if any(isinstance(part, Mapping) for part in value) else ", "
        return between.join(plain(part) for part in value) or "none"
    return str(value)


def number(value: float, digits: int = 4) -> str:
    """A number with so many digits, without trailing zeros."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """A length of time with two units at most."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shape(value: Any) -> str:
    """A shape, the sides with times signs between them."""
    return (
        " \N{MULTIPLICATION SIGN} ".join(str(side) for side in value)
        if isinstance(value, list | tuple)
        else str(value)
    )
