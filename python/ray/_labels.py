"""Labels of nodes, and the text rules that choose nodes by them.

Source: https://docs.ray.io/en/latest/ray-core/scheduling/labels.html, conformance
cluster/test_scheduling.py::test_label_selector_option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# (key, "in" | "not_in" | "exists" | "does_not_exist", values): what the native side takes.
LabelCondition = tuple[str, str, list[str]]

NODE_ID_LABEL_KEY = "ray.io/node-id"

_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_DOMAIN = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_KEY = re.compile(rf"(?:{_DOMAIN}/)?{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_RULE = re.compile(rf"(?P<negated>!?)(?:in\((?P<several>{_NAME}(?:,{_NAME})*)\)|(?P<one>{_NAME}))")

_FORM = (
    "Value must be 63 chars or less beginning and ending with an alphanumeric character"
    " ([a-z0-9A-Z]) with dashes (-), underscores (_), dots (.), and alphanumerics between."
)


def parse_label_selector(selector: Mapping[str, str]) -> list[LabelCondition]:
    """The rules of a ``label_selector``, of which all must hold.

    >>> parse_label_selector({"zone": "!in(a,b)", "disk": "ssd"})
    [('zone', 'not_in', ['a', 'b']), ('disk', 'in', ['ssd'])]

    Args:
        selector: by label key: "value", "!value", "in(value,value)" or "!in(value,value)".

    Raises:
        ValueError: a key or rule that is malformed.
        TypeError: a key or rule that is no string.
    """
    return [_parse_rule(key, rule) for key, rule in selector.items()]


def _parse_rule(key: Any, rule: Any) -> LabelCondition:
    if not isinstance(key, str) or not isinstance(rule, str):
        raise TypeError(f"A label selector must map strings to strings, but has {key!r}: {rule!r}.")
    _check_key(key)
    if rule == "":
        return key, "in", [""]
    match = _RULE.fullmatch(rule)
    if match is None:
        raise ValueError(
            f"Invalid label selector value `{rule}`. The label selector value should contain"
            f" optional operators and a label value. Supported operators are: ! and in(). {_FORM}"
        )
    several = match["several"]
    values = several.split(",") if several else [match["one"]]
    return key, "not_in" if match["negated"] else "in", values


def _check_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError(
            f"Invalid label key name `{key}`. It may have a domain and a slash in front; the name"
            f" itself must be of this form: {_FORM}"
        )


def check_node_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """The labels of a node, as ``ray.init`` takes them.

    Raises:
        ValueError: a key or value that is malformed, or a key that the runtime keeps for itself.
        TypeError: not strings.
    """
    for key, value in (labels or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"labels must map strings to strings, but has {key!r}: {value!r}.")
        _check_key(key)
        if key == NODE_ID_LABEL_KEY:
            raise ValueError(f"The label {key} is set by the runtime; choose another key.")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"Invalid label value `{value}` of `{key}`. {_FORM}")
    return dict(labels or {})
