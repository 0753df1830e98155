"""Reading a tracking plan: what is taken, and what each mistake is called."""

from __future__ import annotations

import pytest

from cdp.domain.tracking_plan import UNDECIDED, Field, parse_plan
from cdp.errors import ConfigError

PLAN = """
version: 1
description: what the shop records
events:
  Order Completed:
    purpose: orders
    retention_days: 365
    fields:
      properties.order_id: {type: string, required: true, pattern: "o-[0-9]+"}
      properties.total: {type: number, purpose: [orders, analytics], retention_days: 30}
      properties.products: {type: list}
      properties.products[].sku: {type: string, required: true}
      properties.currency: {type: string, enum: [EUR, USD]}
  page:
    fields:
      properties.url: {type: string, purpose: none}
  track/page:
    purpose: analytics
identify:
  traits:
    email: {type: string, purpose: email}
context:
  page.url: {type: string, purpose: none}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_plan(text, "plan.yaml")
    return str(caught.value).splitlines()


def test_a_plan_is_read_with_what_fields_inherit_from_their_event() -> None:
    plan = parse_plan(PLAN, "plan.yaml")
    order, page, named_page, identify = plan.events
    assert [one.key for one in plan.events] == ["Order Completed", "page", "page", "identify"]
    assert (page.type, page.name) == ("page", None)
    assert (named_page.type, named_page.name) == ("track", "page")
    assert order.fields[0] == Field(
        path="properties.order_id",
        type="string",
        required=True,
        purposes=("orders",),
        retention_days=365.0,
        enum=(),
        pattern="o-[0-9]+",
    )
    assert order.fields[1].purposes == ("orders", "analytics")
    assert order.fields[1].retention_days == 30.0
    assert identify.fields[0].path == "traits.email"
    assert plan.context is not None
    assert plan.context[0].path == "context.page.url"
    assert plan.context[0].purposes == ()
    assert len(list(plan.fields())) == 8


def test_the_digest_tells_which_text_held() -> None:
    assert parse_plan(PLAN, "a").digest == parse_plan(PLAN, "b").digest
    assert parse_plan(PLAN, "a").digest != parse_plan(PLAN + "\n", "a").digest


def _field(line: str) -> str:
    return f"version: 1\nevents:\n  Signed Up:\n    fields:\n      {line}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "plan.yaml: must be a table of keys and values"),
        ("[1]", "plan.yaml: must be a table of keys and values"),
        ("version: 2", "plan.yaml: version: must be 1"),
        ("version: 1\nevnts: {}", "plan.yaml: evnts: is not known; known are version, desc"),
        ("version: 1\na: [", "plan.yaml:2: not a plan in yaml: "),
        ("version: 1\nversion: 1", "plan.yaml:2: not a plan in yaml: the key version stands twice"),
        ("version: 1\nevents: {yes: {}}", "plan.yaml:2: not a plan in yaml: the key True must be"),
        ("version: !!python/name:os.system", "not a plan in yaml: could not determine"),
        ("version: 1\nevents: {track: {}}", "events.track: name the track event"),
        ("version: 1\nevents: {identify: {}}\nidentify: {}", "events.identify: is planned twice"),
        (_field("total: {type: any, purpose: a}"), "must begin with one of properties., traits."),
        (_field("properties: {type: any, purpose: a}"), "must begin with one of properties."),
        (_field("properties..a: {type: any, purpose: a}"), "must be names with dots between"),
        (_field("properties.a: {purpose: a}"), "properties.a.type: must be one of string, number"),
        (_field("properties.a: {type: txt, purpose: a}"), "must be one of string, number"),
        (_field("properties.a: {type: any}"), "properties.a.purpose: must be a purpose or a list"),
        (_field("properties.a: {type: any, purpose: []}"), "purpose: must be a purpose or a list"),
        (_field(f"properties.a: {{type: any, purpose: {UNDECIDED}}}"), "purpose: is still"),
        (_field("properties.a: {type: any, purpose: [todo]}"), f"purpose: is still {UNDECIDED}"),
        (_field("properties.a: {type: any, purpose: [none, b]}"), "`none` stands alone"),
        (_field("properties.a: {type: any, purpose: a, required: 1}"), "must be true or false"),
        (_field("properties.a: {type: any, purpose: a, enum: x}"), "enum: must be a list"),
        (_field("properties.a: {type: any, purpose: a, enum: [[x]]}"), "enum: must be a list"),
        (_field('properties.a: {type: string, purpose: a, pattern: "("}'), "regular expression"),
        (_field("properties.a: {type: list, purpose: a, pattern: x}"), "only for fields of type"),
        (
            _field("properties.a: {type: any, purpose: a, retention_days: 0}"),
            "number of days above",
        ),
        (_field("properties.a: {type: any, purpose: a, kept: 1}"), "a.kept: is not known; known"),
        (
            _field(
                "properties.a: {type: string, purpose: a}\n"
                "      properties.a.b: {type: any, purpose: a}"
            ),
            "properties.a.type: must be object, as properties.a.b lies in it",
        ),
        (
            _field(
                "properties.a: {type: any, purpose: a}\n"
                "      properties.a[].b: {type: any, purpose: a}"
            ),
            "properties.a.type: must be list, as properties.a[].b lies in it",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(text: str, problem: str) -> None:
    found = problems(text)
    assert len([one for one in found if problem in one]) == 1, found


def test_every_problem_is_named_at_once() -> None:
    text = _field("properties.a: {type: txt}") + "identify: {traits: {b: {purpose: none}}}"
    assert len(problems(text)) == 3


def test_the_text_of_a_value_is_never_run() -> None:
    assert "plan.yaml" in problems("version: !!python/object/apply:os.system ['true']")[0]


def test_a_yaml_that_is_nested_too_deep_is_refused() -> None:
    assert "plan.yaml" in problems("[" * 5_000)[0]
