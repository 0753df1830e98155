"""The consent desk over a ledger, a namer that hashes nothing, and a book of what was audited."""

from __future__ import annotations

from types import SimpleNamespace

from cdp.config_consent import Policy
from cdp.consent.desk import ConsentDesk
from cdp.consent.texts import PolicyTexts
from cdp.domain.identifier import NAMESPACES
from tests.unit.consent.ledger_world import CONSENT, World, node


class Namer:
    """Nodes that can be read; an e-mail without @ is not usable."""

    def node(self, namespace, value):
        name = NAMESPACES[namespace]
        return None if name == "email" and "@" not in value else node(value)


class Audit:
    """What was done, by whom."""

    def __init__(self):
        self.records = []

    def add(self, batch, *, actor, action, object, details):
        self.records.append((actor, action, object, dict(details)))
        return len(self.records)


class DeskWorld(World):
    """A world with a desk."""

    def __init__(self, tmp_path):
        super().__init__(CONSENT)
        text = tmp_path / "shop.txt"
        text.write_text("we sell nothing\n")
        self.policies = {"shop": Policy(version="3", text=text)}
        self.texts = PolicyTexts(self.store, self.policies, now_us=self.now_us)
        self.audit = Audit()
        self.vault.forget_unwritten = lambda: None
        self.desk = ConsentDesk(
            self.store,
            self.ledger,
            self.rules,
            self.texts,
            Namer(),
            self.vault,
            self.audit,
            SimpleNamespace(now_us=lambda: self.now_us),
            suppressed=self.suppressed,
        )
