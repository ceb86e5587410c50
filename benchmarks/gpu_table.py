"""The results as text: device, versions, commit, and the table of each part."""

from __future__ import annotations

import importlib
from typing import Any

_WHY = ("skipped", "failed", "stopped")


def table(result: dict[str, Any], parts: dict[str, Any]) -> str:
    """All parts' tables; parts: what each is, by name, with the `module` whose `lines` shows it."""
    machine, versions = result["machine"], result["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    text = [f"{machine['gpu'] or machine['cpu']}; {known}; commit {result['commit'] or 'unknown'}"]
    if result["quick"]:
        text.append("a quick run with small sizes: these figures say that the script works, and nothing else")
    for name, found in result["parts"].items():
        text.append(f"\n{name} ({found.get('seconds', 0):g} s)")
        text.extend(f"  {why}: {found[why]}" for why in _WHY if why in found)
        if set(found) - {*_WHY, "seconds"}:
            text.extend(f"  {line}" for line in importlib.import_module(parts[name].module).lines(found))
    return "\n".join(text)
