"""`cdp privacy`: a person's rights, from a request to its receipt.

Every order here is a request in the books of the daemon, like one that comes over HTTP: it is
verified and approved in the operator's name, and what it did can be read and proven later.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import trio

from cdp.cli.control import ControlPlane, names_a_profile, open_control, pages, person_named
from cdp.cli.privacy_register import show_register
from cdp.cli.privacy_tables import document_table, request_table, requests_table
from cdp.cli.shell import EXIT_FAILED, EXIT_OK, Arguments, CommandFailed, Shell
from cdp.console.privacy_surface import ENDED

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    _Run = Callable[[ControlPlane, Arguments, Shell], Awaitable[int]]

Json = dict[str, Any]

NAME: Final = "privacy"
SUMMARY: Final = "a person's rights: erase, export, restrict, and proof of it"
EXAMPLES: Final = """\
examples:
  cdp privacy why email:ada@example.com          what is held, on what ground, and who got it
  cdp privacy export email:ada@example.com -o ada.json
  cdp privacy export email:ada@example.com --html -o ada.html
  cdp privacy erase email:ada@example.com        shows what it is about, and asks
  cdp privacy erase --request ID --yes           approves one that came over HTTP
  cdp privacy status                             every request; with an ID: each store, each tool
  cdp privacy attest ID crm --by "Eve" --file letter.pdf
  cdp privacy why MESSAGE_ID crm                 may this event go there, and why
  cdp privacy audit                              what is kept without need
  cdp privacy register                           what is processed for what, where, on what ground
"""

PATH: Final = "/v1/privacy/requests"
POLL_S_MIN: Final = 0.01
POLL_S_MAX: Final = 0.5
WAIT_S: Final = 60.0
METHOD: Final = "by an operator at the command line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_erase(actions)
    _add_export(actions)
    status = _action(actions, "status", _status, "how far requests are, or one in full")
    status.add_argument("id", nargs="?", help="a request's id (default: a list)")
    status.add_argument("--limit", type=int, default=50, metavar="N", help="at most (default: 50)")
    receipt = _action(actions, "receipt", _receipt, "the proof of what was done")
    receipt.add_argument("id", help="the request's id")
    why = _action(actions, "why", _why, "what is held and why, or may something go somewhere")
    why.add_argument("what", help="namespace:value of a person, or a messageId")
    why.add_argument("destination", nargs="?", help="may it go there now, and why")
    _action(actions, "audit", _audit, "fields without purpose or use, data past its retention")
    restrict = _person_action(actions, "restrict", _restrict, "keep, but use for nothing")
    restrict.add_argument("--lift", action="store_true", help="end the restriction")
    unsuppress = _person_action(actions, "unsuppress", _unsuppress, "let somebody be heard again")
    unsuppress.add_argument("--reason", required=True, help="why; it goes into the audit log")
    attest = _action(actions, "attest", _attest, "a person erased by hand at a destination")
    attest.add_argument("id", help="the request's id")
    attest.add_argument("destination", help="the destination's name")
    attest.add_argument("--file", type=Path, help="the evidence; its SHA-256 is kept")
    register = actions.add_parser("register", help="purposes x destinations, on what ground")
    register.add_argument("--json", action="store_true", help="with every regime")
    register.set_defaults(verb=_register)
    cancel = _action(actions, "cancel", _cancel, "take a request back, while nothing was done yet")
    cancel.add_argument("id", help="the request's id")
    hold = _action(actions, "hold", _hold, "let a request wait, for a legal claim or the like")
    hold.add_argument("id", help="the request's id")
    hold.add_argument("--reason", required=True, help="why; it goes into the audit log")
    release = _action(actions, "release", _release, "end the wait; it has to be approved anew")
    release.add_argument("id", help="the request's id")


def _add_erase(actions: Any) -> None:
    erase = _action(actions, "erase", _erase, "erase a person everywhere; cannot be undone")
    erase.add_argument("who", nargs="?", help="namespace:value, a profile id, or a bare value")
    erase.add_argument("--request", metavar="ID", help="a request that was made already")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    erase.add_argument("--wait", type=float, default=WAIT_S, metavar="SECONDS", help="at most")


def _add_export(actions: Any) -> None:
    export = _action(actions, "export", _export, "everything that is held about a person")
    export.add_argument("who", help="namespace:value, a profile id, or a bare value")
    export.add_argument("--html", action="store_true", help="as a page to read (default: JSON)")
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: the terminal")
    export.add_argument("--wait", type=float, default=WAIT_S, metavar="SECONDS", help="at most")


def _person_action(actions: Any, name: str, run: _Run, summary: str) -> argparse.ArgumentParser:
    parser = _action(actions, name, run, summary)
    parser.add_argument("who", help="namespace:value, a profile id, or a bare value")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _action(actions: Any, name: str, run: _Run, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary)
    parser.add_argument("--by", metavar="NAME", help="who orders it (default: $USER)")
    parser.add_argument("--json", action="store_true", help="as the API gives it")
    parser.set_defaults(verb=main, run=run)
    return parser


async def main(arguments: Arguments, shell: Shell) -> int:
    """Runs one action against the daemon."""
    async with open_control(shell) as control:
        code: int = await arguments.run(control, arguments, shell)
        return code


async def _erase(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    if (arguments.who is None) == (arguments.request is None):
        raise CommandFailed("say whom to erase, or --request ID, and not both")
    request_id = arguments.request
    if request_id is None:
        about = await _why_person(control, arguments.who)
        shell.out.print(document_table(about))
        question = f"erase {arguments.who} everywhere? this cannot be undone"
    else:
        shell.out.print(request_table(await control.get(f"{PATH}/{request_id}")))
        question = "approve it? an erasure cannot be undone"
    if not arguments.yes and not shell.asks(question):
        shell.hint("nothing was erased")
        return EXIT_FAILED
    by = _by(arguments, shell)
    if request_id is None:
        request_id = await _submit(control, "erasure", arguments.who)
    told = await _run(control, request_id, by, arguments.wait)
    return await _show_end(control, told, arguments, shell)


async def _show_end(control: ControlPlane, told: Json, arguments: Arguments, shell: Shell) -> int:
    """The receipt of what has ended, or how far it is."""
    if told["state"] not in ENDED:
        shell.json(told) if arguments.json else shell.out.print(request_table(told))
        shell.hint(f"it goes on by itself; see: cdp privacy status {told['id']}")
        return EXIT_OK
    receipt = await control.get(f"{PATH}/{told['id']}/receipt")
    if arguments.json:
        shell.json(receipt)
    else:
        shell.out.print(request_table(told))
        shell.out.print(document_table(receipt, title="receipt"))
    return EXIT_OK if told["state"] == "complete" else EXIT_FAILED


async def _export(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    form = "html" if arguments.html else "json"
    by = _by(arguments, shell)
    request_id = await _submit(control, "access", arguments.who)
    told = await _run(control, request_id, by, arguments.wait)
    if form not in told["exports"]:
        raise CommandFailed(
            f"the document is not there yet, the request is {told['state']}; see: "
            f"cdp privacy status {request_id}"
        )
    path = f"/v1/privacy/export/{request_id}.{form}"
    if arguments.output is None:
        parts = bytearray()
        await control.download(path, parts.extend)
        shell.out.file.write(parts.decode())
        return EXIT_OK
    await _download(control, path, arguments.output)
    shell.hint(f"written to {arguments.output}, for its owner only")
    return EXIT_OK


async def _download(control: ControlPlane, path: str, file: Path) -> None:
    with _create(file) as output:
        await control.download(path, output.write)


def _create(file: Path) -> IO[bytes]:
    """A new file that only its owner may read, from its first moment on."""
    try:
        return open(file, "xb", opener=lambda path, flags: os.open(path, flags, 0o600))
    except FileExistsError:
        raise CommandFailed(f"{file} is there already; choose another name") from None


async def _status(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    if arguments.id is not None:
        return _show(await control.get(f"{PATH}/{arguments.id}"), arguments, shell)
    found = [one async for one in pages(control, PATH, limit=arguments.limit)]
    if arguments.json:
        shell.json(found)
    elif found:
        shell.out.print(requests_table(found))
    else:
        shell.line("nobody has asked for anything")
    return EXIT_OK


async def _receipt(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    told = await control.get(f"{PATH}/{arguments.id}/receipt")
    shell.json(told) if arguments.json else shell.out.print(document_table(told))
    return EXIT_OK


async def _why(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    if arguments.destination is None:
        told = await _why_person(control, arguments.what)
    elif names_a_profile(arguments.what):
        key = ":".join(person_named(arguments.what))
        told = await control.get(
            "/v1/privacy/why", identifier=key, destination=arguments.destination
        )
    else:
        told = await control.get(
            "/v1/privacy/why", event=arguments.what, destination=arguments.destination
        )
    shell.json(told) if arguments.json else shell.out.print(document_table(told))
    return EXIT_OK


async def _why_person(control: ControlPlane, who: str) -> Json:
    told: Json = await control.get("/v1/privacy/why", identifier=":".join(person_named(who)))
    return told


async def _audit(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    told = await control.get("/v1/privacy/audit")
    if arguments.json:
        shell.json(told)
    elif told["findings"]:
        shell.out.print(document_table(told))
    else:
        shell.line("[green]nothing is kept without need[/]")
    return EXIT_FAILED if told["findings"] else EXIT_OK


async def _restrict(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    what = "end the restriction of" if arguments.lift else "use the data for nothing of"
    if not arguments.yes and not shell.asks(f"{what} {arguments.who}?"):
        shell.hint("nothing was changed")
        return EXIT_FAILED
    request_id = await _submit(control, "restriction", arguments.who, lift=arguments.lift)
    told = await _run(control, request_id, _by(arguments, shell), WAIT_S)
    return await _show_end(control, told, arguments, shell)


async def _unsuppress(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    question = f"let {arguments.who} be heard of again? what was erased stays erased"
    if not arguments.yes and not shell.asks(question):
        shell.hint("nothing was changed")
        return EXIT_FAILED
    order = {
        "identifiers": dict([person_named(arguments.who)]),
        "by": _by(arguments, shell),
        "reason": arguments.reason,
    }
    told = await control.post("/v1/privacy/unsuppress", order)
    shell.json(told) if arguments.json else shell.out.print(document_table(told))
    return EXIT_OK


async def _attest(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    order = {"by": _by(arguments, shell), "destination": arguments.destination}
    if arguments.file is not None:
        order["file_sha256"] = _digest(arguments.file)
    return _show(await control.post(f"{PATH}/{arguments.id}/attest", order), arguments, shell)


async def _cancel(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    told = await control.delete(f"{PATH}/{arguments.id}", by=_by(arguments, shell))
    return _show(told, arguments, shell)


async def _hold(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    order = {"by": _by(arguments, shell), "reason": arguments.reason}
    return _show(await control.post(f"{PATH}/{arguments.id}/hold", order), arguments, shell)


async def _release(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    order = {"by": _by(arguments, shell)}
    return _show(await control.post(f"{PATH}/{arguments.id}/release", order), arguments, shell)


def _show(told: Json, arguments: Arguments, shell: Shell) -> int:
    shell.json(told) if arguments.json else shell.out.print(request_table(told))
    return EXIT_OK


async def _register(arguments: Arguments, shell: Shell) -> int:
    show_register(shell, as_json=arguments.json)
    return EXIT_OK


async def _submit(control: ControlPlane, kind: str, who: str, **more: object) -> str:
    identifiers = dict([person_named(who)])
    told = await control.post(PATH, {"kind": kind, "identifiers": identifiers, **more})
    request_id: str = told["id"]
    return request_id


async def _run(control: ControlPlane, request_id: str, by: str, wait_s: float) -> Json:
    """Verifies and approves what is not yet, and waits for the end, `wait_s` at most.

    What is on hold stays there: whoever put it there has to say that the reason is gone.
    """
    path = f"{PATH}/{request_id}"
    told: Json = await control.get(path)
    if told["state"] == "received":
        told = await control.post(f"{path}/verify", {"by": by, "method": METHOD})
    if told["state"] == "verified":
        told = await control.post(f"{path}/approve", {"by": by})
    pause_s = POLL_S_MIN
    with trio.move_on_after(wait_s):
        while told["state"] not in ENDED and told["state"] != "on_hold":
            await trio.sleep(pause_s)
            pause_s = min(POLL_S_MAX, pause_s * 2)
            told = await control.get(path)
    return told


def _by(arguments: Arguments, shell: Shell) -> str:
    return arguments.by or shell.environ("USER") or "operator"


def _digest(file: Path) -> str:
    try:
        return sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror or error}") from error
