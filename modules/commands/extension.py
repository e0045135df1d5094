"""`extension`: list, show, enable, disable, install, update, remove and new.  May run beside a server, which sees changes
at its next start.

A user who may write to the extensions folder may do all of this; what is installed is shown and asked about first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from modules.errors import ExtensionError, SettingsError
from modules.extensions import packages
from modules.extensions.discovery import folders_of
from modules.extensions.inspecting import MAX_ZIP
from modules.extensions.manifest import NAME
from modules.extensions.service import Extensions, ExtensionView, Proposal
from modules.logs import plain_lines
from modules.settings import Settings

SHOWN = 40
"""Files that are listed one by one."""
NOTED = "A server that runs sees this at its next start."


def run(values: argparse.Namespace, settings: Settings) -> int:
    """Carry out one action; 0 when it was done, 1 when it was not wanted after all.

    Raises:
        AtelierError: it cannot be done, and why.
    """
    if values.action is None:
        raise SettingsError("extension: say what to do, see webui.py extension --help")
    extensions = Extensions(folders_of(settings), settings.data_dir, settings.extensions_off, not settings.needs_accounts)
    actions: dict[str, Callable[[Extensions, argparse.Namespace], int]] = {
        "list": _list,
        "show": _show,
        "enable": _enable,
        "disable": _disable,
        "install": _install,
        "update": _update,
        "remove": _remove,
        "new": _new,
    }
    return actions[values.action](extensions, values)


def _list(extensions: Extensions, values: argparse.Namespace) -> int:
    views = extensions.list()
    if values.json:
        print(json.dumps([asdict(view) for view in views]))
        return 0
    for view in views:
        reason = f" ({view.reason})" if view.reason else ""
        _print(f"{view.name} {view.version or '?'}: {view.state}{reason}; {view.title}, {view.source}")
    if not views:
        print(f"There are no extensions in {extensions.folders[0]} yet.")
    return 0


def _show(extensions: Extensions, values: argparse.Namespace) -> int:
    view = extensions.find(values.name)
    _print(f"{view.title} ({view.name}) {view.version}, from {view.source}")
    if view.description:
        _print(view.description)
    _print(f"state: {view.state}{f', {view.reason}' if view.reason else ''}")
    _print(f"halves: {', '.join(view.halves) or 'none'}")
    for need in view.needs:
        _print(f"needs: {need}")
    state = extensions.states.get(view.name)
    if state.commit:
        _print(f"commit: {state.commit}")
    if state.sha256:
        _print(f"SHA-256 of its files when it was installed: {state.sha256}")
    return 0


def _enable(extensions: Extensions, values: argparse.Namespace) -> int:
    found = extensions.located(values.name)
    if found.manifest is not None and found.source != "built in":
        _get_packages(packages.needs_of(found.manifest), values.yes)
    _said(extensions.enable(values.name), "is on")
    return 0


def _disable(extensions: Extensions, values: argparse.Namespace) -> int:
    _said(extensions.disable(values.name), "is off")
    return 0


def _install(extensions: Extensions, values: argparse.Namespace) -> int:
    address, path = values.name, Path(values.name).expanduser()
    if address.casefold().endswith(".zip") and "://" not in address:
        try:
            if path.stat().st_size > MAX_ZIP:
                raise ExtensionError(f"{address} is larger than {MAX_ZIP >> 20} MiB")
            proposal = extensions.propose_zip(path.read_bytes())
        except OSError as error:
            raise ExtensionError(f"{address} cannot be read: {error.strerror or error}") from None
    else:
        proposal = extensions.propose(address, local=True)
    return _decide(extensions, proposal, values.yes, values.enable)


def _update(extensions: Extensions, values: argparse.Namespace) -> int:
    proposal = extensions.update(values.name)
    if not proposal.changes:
        extensions.discard(proposal.token)
        print(f"{proposal.manifest.name} {proposal.manifest.version} is up to date.")
        return 0
    return _decide(extensions, proposal, values.yes, enable=False)


def _decide(extensions: Extensions, proposal: Proposal, yes: bool, enable: bool) -> int:
    """Show a proposal, ask, and install it or remove it again."""
    try:
        _show_proposal(proposal)
        what = f"Replace version {proposal.replaces}" if proposal.replaces else "Install it"
        if not _agreed(f"{what}?", yes):
            extensions.discard(proposal.token)
            print("Nothing was installed.")
            return 1
        _get_packages(proposal.needs, yes)
        view = extensions.install(proposal.token)
    except BaseException:
        extensions.discard(proposal.token)
        raise
    if enable:
        view = extensions.enable(view.name)
    _said(view, f"is installed and {view.state}")
    if view.state == "off":
        print(f"Switch it on in the page, or with: python3 webui.py extension enable {view.name}")
    return 0


def _remove(extensions: Extensions, values: argparse.Namespace) -> int:
    view = extensions.find(values.name)
    if not _agreed(f"{'Delete' if values.delete else 'Remove'} {view.title} ({view.name}) {view.version}?", values.yes):
        print("Nothing was removed.")
        return 1
    place = extensions.remove(values.name)
    if values.delete:
        try:
            place.unlink() if place.is_symlink() else shutil.rmtree(place)
        except OSError as error:
            raise ExtensionError(f"{place} cannot be deleted: {error.strerror or error}") from None
        print(f"{view.name} is deleted. {NOTED}")
    else:
        print(f"{view.name} is removed; its files are in {place}. {NOTED}")
    return 0


def _new(extensions: Extensions, values: argparse.Namespace) -> int:
    from modules.extensions.template import write

    if not NAME.fullmatch(values.name):
        raise ExtensionError(f"the name {values.name[:60]!r} cannot be used; it must be lower-case letters, digits and _")
    folder = extensions.folders[0] / values.name
    if folder.exists() or any(view.name == values.name for view in extensions.list()):
        raise ExtensionError(f"there is an extension {values.name} already; choose another name")
    write(values.name, folder)
    print(f"{folder} is written; its README says how to go on.")
    return 0


# ---- talking


def _show_proposal(proposal: Proposal) -> None:
    manifest = proposal.manifest
    _print(f"{manifest.title} ({manifest.name}) {manifest.version}")
    if manifest.description:
        _print(manifest.description)
    _print(f"from: {proposal.address or 'a zip'}{f', commit {proposal.commit}' if proposal.commit else ''}")
    _print(f"SHA-256 of its files: {proposal.sha256}")
    outcome = "pictures fail" if manifest.on_failure == "fail" else "pictures are made without it"
    _print(f"halves: {', '.join(manifest.halves)}; when it fails, {outcome}")
    for need in proposal.needs:
        _print(f"needs {need.requirement}: {need.verdict}")
    changed = dict(proposal.changes)
    shown = [path for path, _ in proposal.files if not changed or path in changed]
    print(f"files: {len(proposal.files)}, {sum(size for _, size in proposal.files)} bytes")
    sizes = dict(proposal.files)
    for path in shown[:SHOWN]:
        _print(f"  {sizes[path]:>9}  {path}{f'  ({changed[path]})' if path in changed else ''}")
    if len(shown) > SHOWN:
        print(f"  and {len(shown) - SHOWN} more")
    for path, kind in proposal.changes:
        if kind == "removed":
            _print(f"             {path}  (removed)")
    print()
    for warning in proposal.warnings:
        _print(warning)


def _get_packages(needs: Sequence[packages.Need], yes: bool) -> None:
    """Install packages that are missing, where that changes none of ours and the user agrees.

    Raises:
        ExtensionError: they cannot be had so.
    """
    if conflicts := [need.text for need in needs if need.verdict == "conflict"]:
        raise ExtensionError("; ".join(conflicts))
    missing = [need.requirement for need in needs if need.verdict == "missing"]
    if not missing:
        return
    planned = packages.would_install(missing)
    print(f"It needs {', '.join(missing)}; pip would install: {', '.join(planned)}. No package that is installed changes.")
    if not _agreed("Install these packages?", yes):
        raise ExtensionError(f"it needs {', '.join(missing)}; without that it is refused")
    packages.install(missing)


def _agreed(question: str, yes: bool) -> bool:
    """
    Raises:
        SettingsError: nobody can be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise SettingsError(f"{question} Nobody can be asked here; add --yes to agree")
    return input(f"{question} [y/N] ").strip().casefold() in ("y", "yes")


def _said(view: ExtensionView, what: str) -> None:
    _print(f"{view.title} ({view.name}) {view.version} {what}. {NOTED}{f' {view.reason}' if view.reason else ''}")


def _print(text: str) -> None:
    """Text of others cannot take the terminal over."""
    print(plain_lines(text))
