"""Errors in a manifest name the file and the line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.locate import line_of
from manifests.manifest import parse_text
from visent.errors import UserError

TEXT = """\
version = 1

[datasets]
photos = "photos"
depth = { path = "depth", views = 3 }   # a comment

[tasks."the photos"]
dataset = "photos"
kind = "single"
sentence = ["image"]

[tasks.depth]
dataset = "depth"
kind = "discriminative"
sentence = [
  "image",
  "depth",
]
frames.stride = [1, 8]

[stages.s]
context = 256
share = { single = 0.4, depth = 0.6 }

[balance]
max_epochs = 4
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("views = 3", "veiws = 3", 5, "did you mean 'views'"),
        ("views = 3", "views = 0", 5, "views is 0"),
        ('kind = "discriminative"', 'kind = "discriminativ"', 14, "did you mean 'discriminative'"),
        ('dataset = "photos"', 'dataset = "potos"', 8, "did you mean 'photos'"),
        ("[1, 8]", "[8, 1]", 19, "stride [8, 1] is no range"),
        ('"image",', "7,", 15, "expected a list of roles"),
        ("context = 256", 'context = "256"', 22, "expected a whole number"),
        ("depth = 0.6", "depth = -0.6", 23, "expected a number of 0 or more"),
        ("depth = 0.6", "dept = 0.6", 23, "did you mean 'depth'"),
        ("max_epochs = 4", "max_epoch = 4", 26, "did you mean 'max_epochs'"),
        ("max_epochs = 4", "max_epochs = 0", 25, "expected a number above 0"),
        ("context = 256\n", "", 21, "lacks context"),
        ("[balance]", "[ballance]", 25, "did you mean 'balance'"),
    ],
)
def test_an_error_names_the_line_that_is_wrong(old: str, new: str, line: int, message: str) -> None:
    assert old in TEXT
    with pytest.raises(UserError) as caught:
        parse_text(TEXT.replace(old, new), "m.toml")
    assert str(caught.value).startswith(f"m.toml:{line}: "), caught.value
    assert message in str(caught.value)


@given(st.text(alphabet='ab."[]=#{}\n ', max_size=60), st.lists(st.sampled_from(["a", "b", "a.b"]), max_size=3))
def test_any_text_has_a_line_for_any_path(text: str, path: list[str]) -> None:
    assert 1 <= line_of(text, tuple(path)) <= max(text.count("\n") + 1, 1)
