"""The profile API: `/v1/profiles/{namespace}:{value}` and what is under it.

Also under the paths of Segment's profile API, `/v1/spaces/{space}/collections/...`: there is one
space, so its name is not looked at; `users` are profiles and `accounts` are groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.routing import Route

from cdp.console import query, shapes
from cdp.console.answers import answer
from cdp.console.surface import NotFound, Refused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from cdp.console.surface import ControlSurface
    from cdp.domain.profile import ProfileView
    from cdp.identity.history import Earlier
    from cdp.identity.profiles import Profile

OURS: Final = "/v1/profiles/{key}"
SEGMENTS: Final = "/v1/spaces/{space}/collections/users/profiles/{key}"
ACCOUNTS: Final = "/v1/spaces/{space}/collections/accounts/profiles/{key}/traits"


class ProfileRoutes:
    """The endpoints. Each reads the profile anew: a merge shows at once."""

    def __init__(self, surface: ControlSurface) -> None:
        self._surface = surface

    def routes(self) -> list[Route]:
        """Every route of the profile API."""
        parts = {
            "/traits": self.traits,
            "/identifiers": self.identifiers,
            "/external_ids": self.identifiers,
            "/events": self.events,
            "/links": self.links,
            "/metadata": self.metadata,
        }
        both = [
            Route(f"{prefix}{part}", endpoint, methods=["GET"])
            for prefix in (OURS, SEGMENTS)
            for part, endpoint in parts.items()
        ]
        groups = Route(ACCOUNTS, self.group_traits, methods=["GET"])
        return [Route(OURS, self.profile, methods=["GET"]), *both, groups]

    async def profile(self, request: Request) -> Response:
        """Everything about a person that fits a page."""
        profile = self._find(request)
        earlier = await self._earlier(request, profile)
        body = shapes.summary(profile, earlier.view if earlier else profile.view)
        return answer(body | _as_of(request, earlier))

    async def traits(self, request: Request) -> Response:
        """`limit`, `include`, `verbose`, `class`, `as_of`."""
        asked = request.query_params
        view, earlier = await self._view(request)
        if asked.get("class") in ("audience", "computed_trait"):
            view.traits = {}  # a profile has neither kind of trait
        elif "class" in asked:
            raise Refused("class must be audience or computed_trait")
        return answer(self._traits(request, view) | _as_of(request, earlier))

    async def identifiers(self, request: Request) -> Response:
        """`limit`, `as_of`: what the person is known by."""
        profile = self._find(request)
        earlier = await self._earlier(request, profile)
        known = self._surface.profiles.identifiers(profile)
        if earlier is not None:
            known = [one for one in known if one.node in earlier.nodes]
        body = shapes.identifiers(
            known,
            path=request.url.path,
            limit=query.limit_of(request.query_params),
            after=query.after_of(request.query_params),
        )
        return answer(body | _as_of(request, earlier))

    async def events(self, request: Request) -> Response:
        """`limit`, `start`, `end`, `as_of`, `include`, `exclude`, `sort`: what the person did."""
        profile = self._find(request)
        question = query.question_of(request.query_params)
        page = await self._surface.history.page(profile, question)
        leaves = list({past.moment.leaf: None for past in page.events})
        values = self._surface.profiles.values(leaves)
        return answer(shapes.events(page, values, path=request.url.path, limit=question.limit))

    async def links(self, request: Request) -> Response:
        """The person's groups, and the evidence that made the identifiers one profile."""
        profile = self._find(request)
        earlier = await self._earlier(request, profile)
        body = shapes.links(
            earlier.view if earlier else profile.view,
            path=request.url.path,
            limit=query.limit_of(request.query_params, 20),
            after=query.after_of(request.query_params),
        )
        body["evidence"] = self._surface.why.evidence(profile)
        return answer(body | _as_of(request, earlier))

    async def metadata(self, request: Request) -> Response:
        """First and last seen."""
        view, earlier = await self._view(request)
        return answer({"metadata": shapes.metadata(view)} | _as_of(request, earlier))

    async def group_traits(self, request: Request) -> Response:
        """The traits of a group, named `group_id:value`."""
        namespace, value = query.profile_key(request.path_params["key"])
        view = self._surface.profiles.group(value) if namespace == "group_id" else None
        if view is None:
            raise NotFound("no event was about this group")
        return answer(self._traits(request, view))

    def _find(self, request: Request) -> Profile:
        profile = self._surface.profiles.find(*query.profile_key(request.path_params["key"]))
        if profile is None:
            raise NotFound("nobody is known by this identifier")
        return profile

    async def _earlier(self, request: Request, profile: Profile) -> Earlier | None:
        as_of_us = query.time_of(request.query_params, "as_of")
        if as_of_us is None:
            return None
        earlier = await self._surface.history.as_of(profile, as_of_us)
        if not earlier.events:
            raise NotFound("nothing had been heard of this person by then")
        return earlier

    async def _view(self, request: Request) -> tuple[ProfileView, Earlier | None]:
        profile = self._find(request)
        earlier = await self._earlier(request, profile)
        return (earlier.view if earlier else profile.view), earlier

    def _traits(self, request: Request, view: ProfileView) -> shapes.Json:
        asked = request.query_params
        return shapes.traits(
            view,
            path=request.url.path,
            limit=query.limit_of(asked),
            after=query.after_of(asked),
            include=query.names_of(asked, "include"),
            verbose=query.flag(asked, "verbose"),
        )


def _as_of(request: Request, earlier: Earlier | None) -> shapes.Json:
    """What an answer about the past says about itself."""
    if earlier is None:
        return {}
    return {
        "as_of": {
            "time": request.query_params["as_of"],
            "events": earlier.events,
            "events_past_retention": earlier.missing,
            "complete": earlier.missing == 0,
            "members": "as known today",
        }
    }
