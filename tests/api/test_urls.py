"""Links of clips: what is requested, and what never can be."""

from __future__ import annotations

import pytest

from omni_async.api.urls import LinkRefused, follow, host_of, parse_link

SIGNED = "https://cdn.test/a%2Fb/c%2fd;v=1//e/../f?X-Sig=a+b%2Bc%3d&n=1&n=2&e=&k"


@pytest.mark.parametrize(
    ("link", "requested"),
    [
        (SIGNED, SIGNED),
        (SIGNED + " ü", SIGNED + "%20%C3%BC"),
        (SIGNED + "#fragment", SIGNED),
        ("http://cdn.test/clip?", "http://cdn.test/clip?"),
        ("http://cdn.test?a=%2F", "http://cdn.test/?a=%2F"),
        ("http://cdn.test", "http://cdn.test/"),
        ("http://cdn.test/雪%2F", "http://cdn.test/%E9%9B%AA%2F"),
        (
            'http://cdn.test/"<>\\^`{|}?"<>\\^`{|}',
            "http://cdn.test/%22%3C%3E%5C%5E%60%7B%7C%7D?%22%3C%3E%5C%5E%60%7B%7C%7D",
        ),
        ("http://cdn.test/~!*'()[]@:,$", "http://cdn.test/~!*'()[]@:,$"),
        ("http://cdn.test/100%&%zz%", "http://cdn.test/100%&%zz%"),
        ("HTTP://cdn.test/A", "http://cdn.test/A"),
        ("http://bücher.example/ä", "http://xn--bcher-kva.example/%C3%A4"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("http://cdn.test/\udce9", "http://cdn.test/%E9"),
    ],
)
def test_only_what_no_url_can_hold_is_encoded(link: str, requested: str) -> None:
    """Everything else of a link is requested byte for byte, because it may be signed."""
    assert str(parse_link(link).url) == requested


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("ftp://cdn.test/c", "its scheme is ftp"),
        ("file:///etc/passwd", "its scheme is file"),
        ("data:video/mp4;base64,AAAA", "its scheme is data"),
        ("javascript:alert(1)", "its scheme is javascript"),
        ("s3://bucket/clip", "its scheme is s3"),
        ("clip.mp4", "not an http or https URL"),
        ("/clip.mp4", "not an http or https URL"),
        ("//cdn.test/clip.mp4", "not an http or https URL"),
        ("", "not an http or https URL"),
        ("http://", "it names no host"),
        ("http:/clip", "it names no host"),
        ("http:///clip", "it names no host"),
        ("http://:80/clip", "it names no host"),
        ("http://user@/clip", "it names no host"),
        ("http://?clip", "it names no host"),
        ("http://cdn.test:0/", "its port is 0"),
        ("http://cdn.test:99999/", "its host or port is invalid"),
        ("http://cdn.test:port/", "its host or port is invalid"),
        ("http://[::1/", "its host or port is invalid"),
        ("http://cdn .test/", "its host holds a character"),
        ("http://evil.test\\@cdn.test/", "its host holds a character"),
        ("http://cdn..test/", "no host can have its name"),
        (f"http://{'a' * 64}.test/", "no host can have its name"),
        *[(f"http://cdn.test/a{control}b", "a control character") for control in "\0\t\n\r\x1b\x7f"],
        ("http://cdn.test\r\nX-Injected: 1/", "a control character"),
    ],
)
def test_a_link_that_can_never_work_is_refused(link: str, reason: str) -> None:
    """The error says why, in one line and without the query, which may hold a signature."""
    with pytest.raises(LinkRefused, match=reason) as caught:
        parse_link(link + "?sig=secret")
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://other.test/x%2Fy ü", "https://other.test/x%2Fy%20%C3%BC"),
        ("//other.test/x?", "https://other.test/x?"),
        ("/z/../y%2f?", "https://cdn.test:8443/z/../y%2f?"),
        ("d", "https://cdn.test:8443/a/b/d"),
        ("./d//e?x=/../", "https://cdn.test:8443/a/b/d//e?x=/../"),
        ("../d/", "https://cdn.test:8443/a/d/"),
        ("../../../../d", "https://cdn.test:8443/d"),
        ("..", "https://cdn.test:8443/a/"),
        ("?s=2", "https://cdn.test:8443/a/b/c?s=2"),
        ("", "https://cdn.test:8443/a/b/c?s=1"),
        ("#end", "https://cdn.test:8443/a/b/c?s=1"),
        ("  d ", "https://cdn.test:8443/a/b/d"),
        ("\udcc3\udca9", "https://cdn.test:8443/a/b/%C3%A9"),
    ],
)
def test_a_redirect_is_followed_byte_for_byte(location: str, target: str) -> None:
    """A Location may be absolute or relative, and may hold bytes that are not ASCII."""
    assert str(follow(parse_link("https://cdn.test:8443/a/b/c?s=1"), location)) == target


@pytest.mark.parametrize("location", ["http://cdn.test/", "ftp://cdn.test/", "https://", "data:,x", "https://a\tb/"])
def test_a_redirect_to_nowhere_is_refused(location: str) -> None:
    """No redirect leads from https to http, to another scheme, or to a link that can never be requested."""
    with pytest.raises(LinkRefused):
        follow(parse_link("https://cdn.test/"), location)


def test_the_host_of_a_link_shows_no_password() -> None:
    """Messages name the host alone."""
    assert host_of(parse_link("http://me:secret@cdn.test:8080/x")) == "cdn.test"
