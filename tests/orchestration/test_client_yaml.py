from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestration.client_yaml import to_yaml

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
# PyYAML cannot write or read surrogates; JSON from our server never has them.
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    scalars | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20
)


@given(values)
def test_yaml_reads_back_as_it_was(value):
    assert yaml.safe_load(to_yaml(value)) == value


@pytest.mark.parametrize(
    "text",
    ["no", "Yes", "null", "~", "1", "1.0", "1e3", "0x1f", "1_000", "12:30:00", "2020-01-01", "", " x", "- a", "a: b",
     "#c", "=", "<<", "eu/a", "é", "\x85", "\u2028", "\ufeff", "\U0001f600", "off", "!tag", "&a", "*a"],
)  # fmt: skip
def test_text_that_looks_like_something_else_stays_text(text):
    assert yaml.safe_load(to_yaml([text, {text: text}])) == [text, {text: text}]


def test_paths_and_words_are_not_quoted():
    assert (
        to_yaml({"path": "eu/a/rack-1/vm-1", "items": []}) == "path: eu/a/rack-1/vm-1\nitems: []\n"
    )
