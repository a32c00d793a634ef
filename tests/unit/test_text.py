"""What is printed moves no cursor."""

import json

from hypothesis import given
from hypothesis import strategies as st

from lsh_systemd.text import escape_controls, escape_in_json


@given(
    st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Lu"]))
    | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
def test_json_moves_no_cursor_and_says_the_same(text: str) -> None:
    shown = escape_in_json(json.dumps({"x": text}, ensure_ascii=False))
    assert json.loads(shown) == {"x": text}
    assert escape_controls(shown, keep="") == shown
