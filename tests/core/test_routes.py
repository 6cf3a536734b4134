from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.core import routes as module
from proxy.core.routes import NEEDLESS, REMEMBERED, Glob, Route, Routes, match
from proxy.model.errors import Rejected


def build(*matches: str, prefix: str = "/v1", strict: int = 0) -> Routes[None]:
    return Routes([Route(text, *match(text), prefix, None, strict_segments=strict) for text in matches])


ONE = build("* /v1/*")
THREE = build("POST /v1/images/generations", "GET,POST /v1/images/*", "* /v1/*")
GUARDED = build("* /v1/images/*", "* /v1/*")


def refusal(routes: Routes[None], target: str, method: str = "POST") -> Rejected:
    with pytest.raises(Rejected) as caught:
        routes.find(method, target)
    return caught.value


# --- Finding


def test_the_first_route_that_matches_wins() -> None:
    assert THREE.find("POST", "/v1/images/generations").index == 0
    assert THREE.find("POST", "/v1/images/edits").index == 1
    assert THREE.find("GET", "/v1/images/generations").index == 1
    assert THREE.find("DELETE", "/v1/images/generations").index == 2


def test_a_star_crosses_slashes_and_may_stand_for_nothing() -> None:
    assert ONE.find("GET", "/v1/a/b/c").index == 0
    assert ONE.find("GET", "/v1/").index == 0
    assert build("* /v1/*/content").find("GET", "/v1/files/f-1/content")


def test_the_query_takes_no_part() -> None:
    assert THREE.find("POST", "/v1/images/generations?a=/v1/../;//\\%2e%2e").index == 0
    assert refusal(ONE, "/v2?/v1/").status == 404


def test_gives_back_what_follows_the_prefix_untouched() -> None:
    target = "/v1/responses/resp_a%2Fb%2520c?x=%2e%2E&y"
    assert ONE.find("GET", target).rest(target) == "/responses/resp_a%2Fb%2520c?x=%2e%2E&y"


def test_an_empty_prefix_cuts_nothing_off() -> None:
    assert build("* /*", prefix="").find("GET", "/a").rest("/a") == "/a"


def test_no_route_is_404() -> None:
    error = refusal(ONE, "/v2/images")
    assert (error.status, error.code, error.type) == (404, "route_not_found", "invalid_request_error")


def test_a_route_for_other_methods_is_405_and_says_which() -> None:
    error = refusal(build("GET,POST /v1/images/*", "DELETE /v1/*"), "/v1/images/x", "PUT")
    assert (error.status, error.code, error.headers) == (405, "method_not_allowed", {"allow": "GET, POST, DELETE"})


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
@pytest.mark.parametrize("target", ["/v1/images", "/v2", "example.com:443"])
def test_trace_and_connect_are_never_allowed(method: str, target: str) -> None:
    error = refusal(ONE, target, method)
    assert error.status == 405
    assert "TRACE" not in error.headers["allow"]


def test_a_method_in_small_letters_is_refused() -> None:
    assert refusal(ONE, "/v1/images", "post").status == 400


# --- What two readers could read differently


@pytest.mark.parametrize(
    "target",
    [
        "*",
        "http://example.com/v1/images",
        "example.com:443",
        "",
        "v1/images",
        "/v1/images#x",
        "/v1/images?x#y",
        "/v1/ima ges",
        "/v1/images?a b",
        "/v1/images\r\nX: y",
        "/v1/images?\x00",
        "/v1/images\x7f",
        "/v1\\images",
        "/v1/images;x=1",
        "/v1//images",
        "//v1/images",
        "/v1/images//",
        "/v1/./images",
        "/v1/../images",
        "/v1/images/..",
        "/v1/images/.",
        "/v1/%2e/images",
        "/v1/.%2E/images",
        "/v1/%2e%2e",
        "/v1/%252e%252e/images",
        "/v1/files/a%2f..%2f..%2fimages",
        "/v1/files/..%5cimages",
        "/v1/files/%2e%2e%3bx/images",
        "/v1/files/..%00/images",
    ],
)
def test_refuses_what_is_not_a_plain_path(target: str) -> None:
    error = refusal(ONE, target)
    assert (error.status, error.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/im%61ges/generations",  # an unreserved character
        "/v1%2Fimages/generations",  # the slash
        "/v1/images%2Fgenerations",
        "/v1/images%252Fgenerations",  # decoded twice
        "/v1/im%25%36%31ges/generations",
        "/%76%31/files",  # in the text before the star, though no other route waits there
        "/v1/%2Fimages/generations",  # decoded, and slashes run together
        "/v1/x%5C..%5Cimages/generations",
        "/v1/%5Cimages/generations",
    ],
)
def test_refuses_an_escape_in_the_part_that_decides(target: str) -> None:
    assert refusal(GUARDED, target).status == 400


@pytest.mark.parametrize("escape", ["%2F", "%2e", "%25", "%61", "%7E", "%5f", "%2D", "%39"])
@pytest.mark.parametrize("at", range(1, 4))
def test_refuses_every_needless_escape_in_the_text_before_the_first_star(escape: str, at: int) -> None:
    path = "/v1/files"
    assert refusal(ONE, path[:at] + escape + path[at:]).status in (400, 404)
    character = unquote(escape)
    there = build(f"* /v1/a{character if character not in './%' else '-'}b/*", "* /v1/*")
    assert refusal(there, f"/v1/a{escape if character not in './%' else '%2D'}b/c").status == 400


@pytest.mark.parametrize(
    "target",
    [
        "/v1/responses/resp_a%2Fb%2520c",
        "/v1/files/gs%3A%2F%2Fbucket%2Fname.png",
        "/v1/models/ft%3Agpt-4o",
        "/v1/files/a%20b",
        "/v1/files/100%",
        "/v1/files/...",
        "/v1/files/.well-known",
        "/v1/files/%C3%A4",
    ],
)
def test_escapes_behind_the_part_that_decides_pass(target: str) -> None:
    assert GUARDED.find("GET", target).index == 1


@pytest.mark.parametrize("target", ["/v1/images%20/x", "/v1/IMAGES/x", "/V1/images/x"])
def test_what_no_route_matches_stays_404_where_nothing_else_waits(target: str) -> None:
    assert refusal(build("* /v1/images/*"), target).status == 404


@pytest.mark.parametrize(
    "target", ["/v1/Images/generations", "/v1/IMAGES/x/", "/v1/image\u017f/x", "/v1/Image%73/x", "/v1/im%41ges/x"]
)
def test_refuses_what_differs_from_an_earlier_route_only_by_case(target: str) -> None:
    assert refusal(GUARDED, target).status == 400


def test_refuses_what_differs_from_an_earlier_route_only_by_a_trailing_slash() -> None:
    assert refusal(THREE, "/v1/images/generations/").status == 400
    assert refusal(build("* /v1/images/", "* /v1/*"), "/v1/images").status == 400
    assert refusal(build("* /v1/Images", "* /v1/*"), "/v1/images/").status == 400


def test_methods_count_when_routes_are_compared() -> None:
    assert build("POST /v1/images", "* /v1/*").find("GET", "/v1/Images/").index == 1


def test_one_route_alone_takes_any_case_and_a_trailing_slash() -> None:
    assert ONE.find("GET", "/v1/IMAGES/").index == 0


# --- strict_segments


@pytest.mark.parametrize(
    "target", ["/v1/im%61ges/x", "/v1/files%2Fx/y", "/v1/images/%67enerations", "/v1/a%/b", "/v1/a/%4"]
)
def test_strict_segments_hold_no_needless_escape(target: str) -> None:
    assert ONE.find("GET", target)
    assert refusal(build("* /v1/*", strict=2), target).status == 400


@pytest.mark.parametrize("target", ["/v1/files/a%20b", "/v1/responses/x/a%2Fb", "/v1/models/ft%3Ax", "/v1/files"])
def test_behind_strict_segments_escapes_pass(target: str) -> None:
    assert build("* /v1/*", strict=2).find("GET", target)


def test_needless_escapes_are_those_of_slash_dot_percent_backslash_and_the_unreserved() -> None:
    unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    for code in range(256):
        for escape in (f"%{code:02x}", f"%{code:02X}"):
            assert bool(NEEDLESS.search(escape)) == (chr(code) in unreserved + "/.%\\"), escape


# --- The memory of decisions


def test_remembers_what_it_accepted_and_only_that() -> None:
    routes = build("* /v1/*")
    routes.find("GET", "/v1/a?x=1")
    refusal(routes, "/v1/./a")
    refusal(routes, "/v2")
    assert list(routes._known) == [("GET", "/v1/a")]


def test_ever_new_paths_do_not_fill_the_memory() -> None:
    routes = build("* /v1/*")
    for i in range(3 * REMEMBERED):
        routes.find("GET", f"/v1/{i}")
    routes.find("GET", "/v1/" + "x" * 5000)
    assert len(routes._known) <= REMEMBERED
    assert max(len(path) for _, path in routes._known) < 300


# --- Patterns


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/v1/*", "is not of the form"),
        ("GET POST /v1/*", "is not of the form"),
        ("* v1/*", "must begin with '/'"),
        ("post /v1/*", "did you mean POST?"),
        ("PSOT /v1/*", "did you mean POST?"),
        ("TRACE /v1/*", "is not a method that a route can take"),
        ("GET, /v1/*", "'' is not a method"),
        ("* /v1//*", "holds what no path may hold"),
        ("* /v1/../*", "holds what no path may hold"),
        ("* /v1/%61", "holds what no path may hold"),
        ("* /v1/a?b", "holds what no path may hold"),
        ("* /v1/\u00e4", "holds what no path may hold"),
    ],
)
def test_says_what_is_wrong_with_a_pattern(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        match(text)


@pytest.mark.parametrize("pattern", ["/v2/*", "/v1beta/*", "/v", "/*"])
def test_a_pattern_begins_with_its_prefix(pattern: str) -> None:
    with pytest.raises(ValueError, match="does not begin with the prefix"):
        Route("r", None, pattern, "/v1", None)


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        ("* /v1/*", "POST /v1/images/*", True),
        ("* /v1/*", "* /v1/*", True),
        ("GET,POST /v1/*", "GET /v1/a", True),
        ("GET /v1/*", "GET,POST /v1/a", False),
        ("GET /v1/*", "* /v1/a", False),
        ("* /v1/images/*", "* /v1/*", False),
        ("* /v1/*/content", "* /v1/files/*/content", True),
        ("* /v1/*/content", "* /v1/files/*", False),
        ("* /v1/*", "* /v1/", True),
        ("* /v1/Images", "* /v1/images/", True),
    ],
)
def test_knows_which_route_leaves_nothing_to_another(earlier: str, later: str, covered: bool) -> None:
    first, second = build(earlier, later)
    assert first.covers(second) is covered


# --- Whatever comes

characters = st.text(st.sampled_from("/v1imagesIMAGES.%2fFeE5cC;\\?#* \n\x00~\udc80\u017f"), max_size=24)
targets = st.one_of(st.text(), characters, characters.map("/v1/".__add__), characters.map("/v1/images/".__add__))


@settings(deadline=None)
@given(st.sampled_from(["GET", "POST", "TRACE", "get"]) | st.text(max_size=5), targets, st.integers(0, 3))
@example("GET", "/v1/%", 2)
def test_accepts_or_refuses_and_never_changes_a_byte(method: str, target: str, strict: int) -> None:
    routes = build("POST /v1/images/*", "GET /v1/*/content", "* /v1/*", strict=strict)
    try:
        route = routes.find(method, target)
    except Rejected as error:
        refused: Rejected | None = error
    else:
        refused = None
    if refused is not None:
        assert refused.status in (400, 404, 405)
        assert (refused.status == 405) == ("allow" in refused.headers)
        return
    assert route.prefix + route.rest(target) == target
    assert route.rest(target).startswith("/")
    assert routes.find(method, target) is route


@settings(deadline=None)
@given(targets)
def test_no_reading_of_an_accepted_path_gets_to_the_guarded_route(target: str) -> None:
    try:
        route = GUARDED.find("POST", target)
    except Rejected:
        return
    reading = target.partition("?")[0]
    for _ in range(3):
        assert reading.casefold().startswith("/v1/images/") == (route.index == 0)
        assert not {".", ".."}.intersection(re.split(r"[/\\]", reading))
        reading = unquote(reading, errors="surrogateescape")


@settings(deadline=None)
@given(st.text("ab/*", max_size=8), st.text("ab/", max_size=10))
def test_a_pattern_matches_what_the_same_regular_expression_would(pattern: str, path: str) -> None:
    expression = "".join(".*" if part == "*" else re.escape(part) for part in pattern)
    assert Glob(pattern)(path) == bool(re.fullmatch(expression, path))


@settings(deadline=None)
@given(st.text("ab/*", max_size=6), st.text("ab/*", max_size=6), st.text("ab/", max_size=8))
def test_what_is_covered_is_never_matched_by_the_second_alone(wide: str, narrow: str, path: str) -> None:
    first, second = (Route("r", None, f"/{pattern}", "", None) for pattern in (wide, narrow))
    if first.covers(second) and second.matches(f"/{path}") and not path.endswith("/"):
        assert first.matches(f"/{path}") or first.nearly_takes("GET", f"/{path}")


def test_the_words_of_refusals_never_repeat_the_target() -> None:
    assert "hunter2" not in str(refusal(ONE, "/v1/../hunter2"))
    assert "hunter2" not in str(refusal(ONE, "/hunter2"))
    assert module.METHODS[0] == "GET"
