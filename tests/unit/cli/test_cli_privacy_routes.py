"""The command line against the real routes: both sides mean the same by every path and member."""

import hashlib
import io

import httpx
import pytest
from rich.console import Console
from terminal import CONFIG, ENVIRON, Ran

from cdp.cli.main import main
from cdp.cli.shell import Shell
from cdp.config import Secret
from cdp.console.app import control_app
from cdp.console.privacy_routes import PrivacyRoutes
from tests.unit.console.privacy import Book
from tests.unit.console.surface import Surface

ID = f"{1:032x}"


class Quick(Book):
    """Does what was approved at once."""

    async def approve_request(self, request_id, *, by):
        await super().approve_request(request_id, by=by)
        jobs = [{"destination": "crm", "state": "confirmed"}]
        self.move(request_id, "complete", exports=["json", "html"], destinations=jobs)
        self.documents[request_id, "json"] = b'{"schema":"cdp.person"}'
        return self.rows[request_id]


@pytest.fixture
def book():
    return Quick()


@pytest.fixture
def run(book, tmp_path):
    file = tmp_path / "cdp.toml"
    file.write_text(CONFIG)
    app = control_app(
        Surface(),
        token=Secret(ENVIRON["TOKEN"]),
        new_id=lambda: "request",
        more=PrivacyRoutes(book).routes(),
    )

    def cdp(*argv, stdin=b""):
        out, err = io.StringIO(), io.StringIO()
        shell = Shell(
            out=Console(file=out, width=160, highlight=False),
            err=Console(file=err, width=160, highlight=False),
            stdin=io.BytesIO(stdin),
            environ=ENVIRON.get,
            transport=lambda: httpx.ASGITransport(app=app),
        )
        code = main(["--config", str(file), "privacy", *argv], shell)
        return Ran(code, out.getvalue(), err.getvalue())

    return cdp


def test_an_erasure_goes_all_the_way_to_its_receipt(run, book):
    ran = run("erase", "ada@example.com", "--by", "eve", stdin=b"y\n")
    assert ran.code == 0, ran.err
    assert book.asked[0].identifiers == (("email", "ada@example.com"),)
    assert [order[:1] + order[2:] for order in book.orders] == [
        ("verify", "eve", "by an operator at the command line"),
        ("approve", "eve"),
    ]
    assert "confirmed" in ran.out
    assert "receipt" in ran.out


def test_a_receipt_is_shown_once_the_request_has_ended(run, book):
    run("erase", "42", "--yes")
    assert run("receipt", ID, "--json").json["signature"] == "s"
    book.move(ID, "downstream")
    ran = run("receipt", ID)
    assert ran.code == 1
    assert "runs yet" in ran.err


def test_a_request_on_hold_stays_there(run, book):
    assert run("restrict", "42", "--yes").code == 0
    book.move(ID, "on_hold")
    orders = len(book.orders)
    assert run("erase", "--request", ID, "--yes").code == 0
    assert len(book.orders) == orders


def test_an_export_is_the_document_that_was_made(run, book, tmp_path):
    file = tmp_path / "ada.json"
    ran = run("export", "+4917012345", "-o", str(file))
    assert ran.code == 0, ran.err
    assert file.read_bytes() == b'{"schema":"cdp.person"}'
    assert (book.asked[0].kind, book.asked[0].identifiers) == (
        "access",
        (("phone", "+4917012345"),),
    )


def test_a_document_that_is_not_there_is_said_in_the_daemons_words(run, book):
    book.documents.clear()
    ran = run("export", "42", "--html")
    assert ran.code == 1
    assert "not made yet, expired, or erased" in ran.err


def test_status_attest_cancel_and_unsuppress_reach_their_routes(run, book, tmp_path):
    letter = tmp_path / "letter"
    letter.write_bytes(b"done")
    run("restrict", "42", "--lift", "--yes")
    assert book.asked[0].lift is True
    assert ID in run("status").out
    assert run("status", ID).code == 0
    assert run("attest", ID, "crm", "--by", "eve", "--file", str(letter)).code == 0
    digest = hashlib.sha256(b"done").hexdigest()
    assert book.orders[-1] == ("attest", ID, "crm", "eve", digest)
    assert run("hold", ID, "--by", "eve", "--reason", "a claim").code == 0
    assert run("release", ID, "--by", "eve").code == 0
    assert book.orders[-2:] == [("hold", ID, "eve", "a claim"), ("release", ID, "eve")]
    book.move(ID, "complete")
    cancelled = run("cancel", ID, "--by", "eve")
    assert cancelled.code == 1
    assert "nothing that was done can be taken back" in cancelled.err
    assert run("unsuppress", "a/b?c", "--reason", "back", "--by", "eve", "--yes").code == 0
    assert book.orders[-1] == ("unsuppress", (("user_id", "a/b?c"),), "eve", "back")


def test_why_and_audit_show_what_the_daemon_tells(run, book):
    book.findings = [{"kind": "unused", "where": "properties.shoe_size"}]
    assert "email" in run("why", "ada@example.com").out
    assert '"message_id": "m/1"' in run("why", "m/1", "crm", "--json").out
    assert "no destination is called gone" in run("why", "m1", "gone").err
    assert "properties.shoe_size" in run("audit").out
