"""Sealing."""

from __future__ import annotations

import pytest

from sync_tasks.errors import ControlError
from sync_tasks.secrets import SecretBox, new_key, redact


def test_what_is_sealed_opens_with_its_key_alone() -> None:
    key = new_key()
    token = SecretBox(key).seal("redis://:hush@h")
    assert b"hush" not in token
    assert SecretBox(key).open(token) == "redis://:hush@h"
    with pytest.raises(ControlError, match="another key"):
        SecretBox(new_key()).open(token)


def test_a_key_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(ControlError) as caught:
        SecretBox(b"hush")
    assert "hush" not in caught.value.line()


def test_the_key_is_not_shown() -> None:
    key = new_key()
    assert key.decode() not in repr(SecretBox(key))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at redis://u:hush@h:1/0 now", "at redis://***@h:1/0 now"),
        ("rediss://hush@h and unix://:hush@/x", "rediss://***@h and unix://***@/x"),
        ("redis://h:1 asks me@example.org", "redis://h:1 asks me@example.org"),
    ],
)
def test_user_parts_of_urls_are_redacted(text: str, shown: str) -> None:
    assert redact(text) == shown
