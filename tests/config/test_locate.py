from __future__ import annotations

import math
import string

import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.locate import locate, scan

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

STYLED = """
title = "x"
"quoted key".'and dotted' = 1
[[product]]
name = "a#b" # comment
tags = [ "x", # one
  "y]", ['z'],
]
[[product]]
name = '''two
lines'''
[product.size]
cm = { width = 3, "he.ight" = [1, 2] }
at = 1979-05-27 07:32:00
[[product.part]]
id = 1
[[product.part]]
id = 2
"""


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path, value


def check(text):
    """Every leaf that tomli sees is found, and the text at its span says the same."""
    data = tomli.loads(text)
    expected = dict(leaves(data))
    found = locate(text, set(expected))
    assert set(found) == set(expected)
    for path, value in expected.items():
        start, end = found[path].value
        said = tomli.loads(f"x = {text[start:end]}")["x"]
        assert said == value or (math.isnan(said) and math.isnan(value))
        if isinstance(path[-1], str):
            start, end = found[path].key
            assert tomli.loads(f"{text[start:end]} = 1") == {path[-1]: 1}


def test_every_value_of_a_styled_text_is_found():
    check(STYLED)


def test_table_is_found_at_its_own_header_not_where_it_is_passed():
    text = "[a.b.c]\nx = 1\n[a.b]\ny = 2\n"

    entry = locate(text, {("a", "b")})[("a", "b")]

    assert text[: entry.key[0]].count("\n") == 2


def test_scan_yields_tables_arrays_and_elements():
    paths = [entry.path for entry in scan("a = [1, {b = 2}]\n[c]\n")]

    assert paths == [("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("c",)]


# A generator of TOML that takes every freedom of layout there is, next to a plain writer of values.
keys = st.text(string.ascii_letters + string.digits + "-_ .#='[]{}é\\\"\t", max_size=8)
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), include_characters="\n\t"),
    max_size=20,
)
spaces = st.sampled_from(["", " ", "  ", "\t"])
gaps = st.sampled_from(["", " ", "\n", " # ] } , = \" '\n", "\n\n"])
ends = st.sampled_from(["\n", " # [x] y = '''\n", "\n\n\n", "\t\n"])


def quoted(text):
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    )
    return f'"{escaped}"'


@st.composite
def key_texts(draw, key):
    forms = [quoted(key)]
    if key and set(key) <= set(string.ascii_letters + string.digits + "-_"):
        forms.append(key)
    if "'" not in key:
        forms.append(f"'{key}'")
    return draw(st.sampled_from(forms))


@st.composite
def string_texts(draw):
    text = draw(texts)
    forms = [quoted(text)]
    if "'" not in text:
        forms += [f"'''{text}'''", f"'''\n{text}''''"]
        if "\n" not in text:
            forms.append(f"'{text}'")
    if '"' not in text and "\\" not in text:
        forms += [f'"""{text}"""', f'"""\n{text} \\\n   """', f'"""{text}"x""y"""""']
    return draw(st.sampled_from(forms))


scalars = st.one_of(
    string_texts(),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.sampled_from(
        ["1_000", "0xdead_BEEF", "-0.5e3", "+inf", "nan", "true", "07:32:00", "1979-05-27"]
    ),
    st.sampled_from(["1979-05-27 07:32:00.5+01:00", "1979-05-27T07:32:00Z"]),
)


@st.composite
def value_texts(draw, depth=2):
    kind = draw(st.sampled_from(["scalar", "array", "table"] if depth else ["scalar"]))
    if kind == "scalar":
        return draw(scalars)
    if kind == "array":
        inner = draw(st.lists(value_texts(depth=depth - 1), max_size=3))
        parts = [draw(gaps) + part + draw(gaps) for part in inner]
        comma = "," + draw(gaps) if parts and draw(st.booleans()) else ""
        return "[" + ",".join(parts) + comma + "]"
    names = draw(st.lists(keys, max_size=3, unique=True))
    pairs = [
        f"{draw(spaces)}{draw(key_texts(n))}{draw(spaces)}={draw(spaces)}"
        f"{draw(value_texts(depth=depth - 1))}{draw(spaces)}"
        for n in names
    ]
    return "{" + ",".join(pairs) + "}"


@st.composite
def bodies(draw):
    """Pairs with keys that differ in the first part, some dotted."""
    lines = []
    for name in draw(st.lists(keys, max_size=4, unique=True)):
        parts = [name, *draw(st.lists(keys, max_size=2))]
        key = draw(st.sampled_from([".", " . ", "\t."])).join(draw(key_texts(p)) for p in parts)
        value = draw(value_texts())
        lines.append(f"{draw(spaces)}{key}{draw(spaces)}={draw(spaces)}{value}{draw(ends)}")
    return "".join(lines)


@st.composite
def documents(draw):
    text = draw(gaps) + draw(bodies())
    for name in draw(st.lists(keys, max_size=3, unique=True)):
        head = "t" + name  # the first key of the root never starts with "t" and a table's name
        parts = [
            draw(key_texts(head)),
            *[draw(key_texts(k)) for k in draw(st.lists(keys, max_size=2))],
        ]
        key = draw(st.sampled_from([".", " . "])).join(parts)
        if draw(st.booleans()):
            text += f"[{draw(spaces)}{key}{draw(spaces)}]{draw(ends)}{draw(bodies())}"
        else:
            for _ in range(draw(st.integers(1, 3))):
                text += f"[[{key}]]{draw(ends)}{draw(bodies())}"
                text += f"[{key}.below]{draw(ends)}" if draw(st.booleans()) else ""
    return text


def is_toml(text):
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return False
    return True


@UNHURRIED
@given(documents().filter(is_toml))
def test_locator_agrees_with_tomli_on_any_text(text):
    check(text)
