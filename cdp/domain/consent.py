"""What consent is made of: statements, records, and where a person stands. Pure.

A *statement* is what somebody said, once, about purposes. The ledger keeps statements as
*records*, each about one identifier, and never rewrites one. What holds for an identifier now is
derived from its records, a *cell* a purpose; what holds for a person is the *standing*: the meet
over the identifiers of the profile, in which a denial wins.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = [
    "BASES",
    "NOBODY",
    "Authority",
    "Basis",
    "Latest",
    "Proof",
    "Standing",
    "State",
    "Statement",
]

# On what ground data may be used for a purpose. `necessary` stands for contract, legal obligation
# and what the service itself cannot do without: it asks for no consent.
Basis = Literal["opt_in", "opt_out", "legitimate_interest", "necessary"]
BASES: Final = ("opt_in", "opt_out", "legitimate_interest", "necessary")

# Who said it. What a public write key sends can be anybody's word: it never lifts a denial that a
# server recorded.
Authority = Literal["public", "server"]

# Where one purpose stands for one identifier or one person, now. `expired`: a grant that is too
# old; `superseded`: a grant for a policy text that has been materially changed since.
State = Literal["granted", "denied", "expired", "superseded"]


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What shows that somebody said it (GDPR article 7.1). Every field is optional.

    `text_sha256` is of the policy text that was shown, in hexadecimal. `signal` is the raw TC or
    GPP string or header: personal data, sealed with the person's key wherever it is stored.
    """

    policy: str | None = None
    policy_version: str | None = None
    text_sha256: str | None = None
    language: str | None = None
    method: str | None = None  # accept, reject, save, dismiss, gpc, script, import ...
    notice: str | None = None  # the id of the notice that was served
    signal: str | None = None
    signal_sha256: str | None = None
    origin: str | None = None
    address: str | None = None  # cut to /24 or /48
    user_agent_sha256: str | None = None
    request_id: str | None = None
    actor: str | None = None  # who recorded it, where a person of ours did


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said about purposes: purpose -> granted?

    `kind` is how it came: event (`categoryPreferences` and the like), gpc, tcf, gpp, api, import,
    console, request. `grants_count` is False where only the denials in it may be recorded, as for
    a public write key whose source is not trusted with grants.
    """

    purposes: dict[str, bool]
    kind: str
    authority: Authority
    source: str  # the name of the source, or of the surface
    at_us: int  # when it was said, by the sender's corrected clock
    received_at_us: int
    grants_count: bool = True
    jurisdiction: str = ""
    regime: str = ""  # name and version of the table that held then
    objection: bool = False  # an objection to legitimate interest, not a refusal of consent
    expires_at_us: int | None = None
    proof: Proof = Proof()


class Latest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where one purpose stands now. `seq` is the record's that made it so.

    A grant may end by itself: at `expires_at_us` (0: never), and with the greatest age that the
    regime of an event allows, counted from `at_us`. `lifts` says that the grant overrules earlier
    denials of the same person: where it has ended, they hold again.
    """

    state: State
    seq: int
    at_us: int = 0
    kind: str = ""
    policy: str = ""  # id@version
    authority: Authority = "public"
    expires_at_us: int = 0
    lifts: bool = False


class Standing(msgspec.Struct, frozen=True):
    """Where a person stands now: all that the gate needs to know besides the event.

    A purpose without an entry in `purposes`: nobody ever said anything. `gpc`: a browser of the
    person sends Global Privacy Control. `restricted`: processing is restricted (GDPR article 18).
    `suppressed` covers erasure too: nothing about the person may be stored or sent.
    """

    purposes: dict[str, Latest] = {}
    gpc: bool = False
    suppressed: bool = False
    restricted: bool = False


NOBODY: Final = Standing()  # of whom nothing is known
