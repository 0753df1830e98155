import re
from html.parser import HTMLParser

import pytest

from cdp.console.access_page import PageForm, table, text
from tests.unit.consent.access_world import Subject
from tests.unit.identity.world import event

ATTACKS = (
    "<img src=x onerror=alert(1)>",
    "</title><script>alert(1)</script>",
    '"><svg/onload=alert(1)>',
    "'; alert(1)//",
    "</style><script>alert(1)</script>",
    "<!-- ",
    "javascript:alert(1)",
    "&lt;script&gt;",
    "\u202ereversed",
    "nul\x00l",
)


class Tags(HTMLParser):
    """Every tag and attribute that a browser would see, and the text between."""

    def __init__(self):
        super().__init__()
        self.tags = set()
        self.attributes = set()
        self.words = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.words.append(data)


KNOWN_TAGS = set(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "bdi",
        "code",
        "span",
        "p",
    ]
)
KNOWN_ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class"}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_nothing_from_an_event_becomes_markup(tmp_path, attack):
    user = f"ada {attack}"
    events = [
        event(0, "identify", user_id=user, traits={attack: attack, "deep": {attack: [attack]}}),
        event(1, user_id=user, event=attack, source=attack, properties={attack: attack}),
        event(2, "group", user_id=user, group_id=attack),
        event(3, "page", user_id=user, name=attack, context={"page": {"url": attack}}),
    ]
    planted = {
        "standing": {attack: attack},
        "consent": [{attack: attack}],
        "recipients": [{"destination": attack}],
        "requests": [{"identifiers": {attack: attack}}],
    }
    _, page, _ = await Subject(tmp_path, events, **planted).export(("user_id", user))
    parser = Tags()
    parser.feed(page)
    assert parser.tags <= KNOWN_TAGS
    assert parser.attributes <= KNOWN_ATTRIBUTES
    assert not re.search("[\x00\u202e]", page)
    if attack.isprintable():
        assert attack in "".join(parser.words)


async def test_the_page_loads_nothing_and_its_policy_says_so(tmp_path):
    _, page, _ = await Subject(tmp_path, [event(0, user_id="ada")]).export()
    assert "default-src &#x27;none&#x27;; style-src &#x27;sha256-" in page
    assert "<script" not in page
    assert "src=" not in page
    assert "href=" not in page
    assert "url(" not in page


def test_the_policy_allows_exactly_the_style_of_the_page():
    import base64
    import hashlib

    head = {
        "profile_id": "",
        "state": "",
        "first_seen_at": None,
        "last_seen_at": None,
        "made_at": "",
        "request_id": "",
        "identifiers": [],
        "traits": {},
        "groups": [],
        "audiences": [],
        "consent": {"now": {}, "records": []},
        "recipients": [],
        "requests": [],
    }
    page = PageForm().head(head).decode()
    style = re.search("<style>(.*)</style>", page).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"sha256-{digest}&#x27;" in page
    assert page.count("Nothing.") == 8


def test_values_are_shown_as_people_read_them():
    assert text(None) == '<span class="quiet">none</span>'
    assert (text(True), text(False), text(3)) == ("yes", "no", "3")
    assert text("a<b") == "<bdi>a&lt;b</bdi>"
    assert text({"a": ["<"]}) == "<code>{&quot;a&quot;:[&quot;&lt;&quot;]}</code>"
    assert table(("a",), []) == '<p class="quiet">Nothing.</p>'
