"""Show versions, devices, what is missing and how to install it.

Exit code 0 if Limbeck can run (optional packages may be missing), 2 if something that it always needs is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

# distribution name to module name, where they differ
_MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL", "annotated-types": "annotated_types"}
_EXTRAS = ("vision", "text", "study", "export", "track")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def main(args: argparse.Namespace) -> int:
    """Runs the command."""
    found = examine()
    print(json.dumps(found, indent=1)) if args.json else _show(found)
    return 0 if found["ok"] else 2


def examine() -> dict[str, Any]:
    """Everything that the command shows."""
    wanted = requirements()
    groups = {group: {name: _package(name, least) for name, least in names.items()} for group, names in wanted.items()}
    core = groups.pop("core")
    problems = [f"{name}: {state['problem']}. {state['fix']}" for name, state in core.items() if state["problem"]]
    place = _place(Path.cwd())
    if not place["writable"]:
        problems.append(f"{place['path']}: not writable. Change to another directory, or give runs a place with --out.")
    missing = {group: bad for group, names in groups.items() if (bad := [name for name, state in names.items() if state["problem"]])}
    return {
        "ok": not any(state["problem"] for state in core.values()),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "limbeck": _limbeck_version(),
        "core": core,
        "extras": groups,
        "devices": _devices(),
        "directory": place,
        "problems": problems,
        "missing": {group: {"packages": names, "install": f"{_pip()} install 'limbeck[{group}]'"} for group, names in missing.items()},
    }


def requirements() -> dict[str, dict[str, str]]:
    """Group (`core` or an extra) to distribution to its least version, as the installed package declares them."""
    groups: dict[str, dict[str, str]] = {"core": {}, **{extra: {} for extra in _EXTRAS}}
    try:
        declared = metadata.requires("limbeck") or []
    except metadata.PackageNotFoundError:
        declared = []
    for line in declared:
        found = re.match(r"([A-Za-z0-9._-]+)[^;]*?(?:>=\s*([\w.]+))?\s*(?:;.*extra\s*==\s*['\"](\w+)['\"].*)?$", line)
        if found and (found[3] or "core") in groups and found[1] != "limbeck":
            groups[found[3] or "core"][found[1].lower()] = found[2] or ""
    return groups


def _package(name: str, least: str) -> dict[str, Any]:
    """Version of a package and what is wrong with it; it is really imported, since a broken one has a version, too."""
    fix = f"{_pip()} install --upgrade '{name}{'>=' + least if least else ''}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return {"version": None, "least": least, "problem": "not installed", "fix": fix}
    problem = f"version {version} is older than {least}" if least and _numbers(version) < _numbers(least) else ""
    if not problem:
        try:
            import_module(_MODULES.get(name, name.replace("-", "_")))
        except Exception as error:  # whatever a broken package raises
            first = next(iter(str(error).splitlines()), "")
            problem = f"version {version} cannot be imported: {type(error).__name__}: {first}".rstrip(": ")
    return {"version": version, "least": least, "problem": problem, "fix": fix if problem else ""}


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def _limbeck_version() -> str:
    from .. import __version__

    return __version__


def _devices() -> list[dict[str, Any]]:
    """The processor and the accelerators that torch sees."""
    devices: list[dict[str, Any]] = [{"device": "cpu", "name": platform.processor() or platform.machine(), "cores": os.cpu_count()}]
    try:
        import torch

        devices[0]["threads"] = torch.get_num_threads()
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            devices.append({"device": f"cuda:{i}", "name": torch.cuda.get_device_name(i), "memory_bytes": total, "free_bytes": free})
        if torch.backends.mps.is_available():
            devices.append({"device": "mps", "name": "Apple GPU", "memory_bytes": torch.mps.recommended_max_memory()})
    except Exception as error:  # a broken driver must not hide the rest
        devices.append({"device": "unknown", "name": f"devices cannot be asked: {type(error).__name__}: {error}"})
    return devices


def _place(folder: Path) -> dict[str, Any]:
    """Free space and whether a file can be written."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            writable = True
    except OSError:
        writable = False
    return {"path": str(folder), "writable": writable, "free_bytes": shutil.disk_usage(folder).free}


def _pip() -> str:
    return f"{sys.executable} -m pip" if sys.prefix != sys.base_prefix else "python -m pip"


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    console.print(f"[bold]Limbeck {found['limbeck']}[/], Python {found['python']}, {escape(found['platform'])}\n")
    for group, names in {"core": found["core"], **found["extras"]}.items():
        bad = {name: f"[red]{name}: {escape(info['problem'])}[/]" for name, info in names.items() if info["problem"]}
        state = ", ".join(bad.get(name) or f"{name} {info['version']}" for name, info in names.items())
        console.print(f"[bold]{group:<8}[/]{state or 'not declared; is limbeck installed?'}", soft_wrap=True)
    console.print()
    for device in found["devices"]:
        facts = [device["name"]]
        facts += [f"{device['cores']} cores, {device.get('threads', '?')} threads in use by torch"] if "cores" in device else []
        facts += [f"{device['memory_bytes'] / 2**30:.1f} GiB"] if "memory_bytes" in device else []
        console.print(f"[bold]{device['device']:<8}[/]{escape(', '.join(facts))}", soft_wrap=True)
    place = found["directory"]
    state = "writable" if place["writable"] else "[red]not writable[/]"
    console.print(f"[bold]{'disk':<8}[/]{escape(place['path'])}: {place['free_bytes'] / 2**30:.1f} GiB free, {state}\n", soft_wrap=True)
    for problem in found["problems"]:
        console.print(f"[bold red]broken[/]  {escape(problem)}", soft_wrap=True)
    for group, info in found["missing"].items():
        text = f"{group} lacks {', '.join(info['packages'])}: {info['install']}"
        console.print(f"[yellow]optional[/]  {escape(text)}", soft_wrap=True)
    if not found["problems"] and not found["missing"]:
        console.print("[green]Nothing is missing.[/]")
