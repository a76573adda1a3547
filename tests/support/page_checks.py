"""Whether a page is accessible, measured in the browser: by axe-core, and by scripts for what axe
doesn't check.

The scripts come through the debugging protocol, to which no content security policy applies.
"""

from __future__ import annotations

import functools
import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.browser import Browser

TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
# Text has the contrast that axe looks at; this is the 3 to 1 of what one types in or ticks (WCAG
# 1.4.11).
EDGES = """(() => {
    const parts = color => (color.match(/[\\d.]+/g) || []).map(Number);
    const light = color => {
        const [r, g, b] = parts(color).map(each => each / 255)
            .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (let each = element; each; each = each.parentElement) {
            const color = getComputedStyle(each).backgroundColor;
            if ((parts(color)[3] ?? 1) > 0) { return color; }
        }
        return "rgb(255, 255, 255)";
    };
    const ratio = (one, other) => {
        const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const typed = "main input:not([type=checkbox]):not([type=hidden]), main select, main textarea";
    return [...document.querySelectorAll(typed)]
        .filter(each => each.getClientRects().length
            && ratio(getComputedStyle(each).borderTopColor, behind(each.parentElement)) < 3)
        .map(each => each.outerHTML.slice(0, 100));
})()"""
# The element that has the focus and doesn't show it.
UNSEEN = """(() => {
    const each = document.activeElement, style = getComputedStyle(each);
    if (each === document.body) { return null; }
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return seen ? "" : each.outerHTML.slice(0, 100);
})()"""
# The elements that have moved since the page was opened, without a click or a key.
SHIFTS = """window.shifts = []; window.looks = 0;
    new PerformanceObserver(list => list.getEntries().forEach(each => window.shifts.push(
        each.value.toFixed(4) + " " + each.sources.map(source =>
            source.node && source.node.parentElement
            ? source.node.parentElement.outerHTML.slice(0, 120) : "?").join(" | "))))
        .observe({type: "layout-shift", buffered: true});
    const ask = window.fetch;
    window.fetch = (...given) => ask(...given).finally(() => { window.looks += 1; }); 0"""


@functools.cache
def axe() -> str:
    """The script of axe-core, from the package that contains it."""
    spec = find_spec("axe_core_python")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("axe.min.js").read_text()


def faults(browser: Browser, *, only: tuple[str, ...] = ()) -> list[str]:
    """The faults of the open page, by all rules of axe-core or by these."""
    if not browser.run("typeof axe === 'object'"):
        browser.run(axe() + "; 0")
    which: dict[str, Any] = (
        {"type": "rule", "values": only} if only else {"type": "tag", "values": TAGS}
    )
    options = {"runOnly": which, "resultTypes": ["violations"]}
    found = browser.run(f"axe.run(document, {json.dumps(options)}).then(said => said.violations)")
    axes = [
        f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for fault in found
        for node in fault["nodes"][:3]
    ]
    return axes + [f"its edge can't be seen: {each}" for each in browser.run(EDGES)]


def dress(browser: Browser, theme: str) -> None:
    """Switch to light or dark."""
    browser.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
    )
    browser.run(f"document.documentElement.setAttribute('data-bs-theme', '{theme}')")


def unseen(browser: Browser, most: int = 30) -> list[str]:
    """The elements that the tab key reaches on this page without a visible focus."""
    browser.run("document.activeElement.blur()")
    found = []
    for _ in range(most):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call(
                "Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9
            )
        said = browser.run(UNSEEN)
        if said is None:
            break
        found += [said] if said else []
    return found
