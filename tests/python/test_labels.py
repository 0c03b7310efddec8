"""Label rules as text, and which of them are refused."""

import pytest

from ray._labels import check_node_labels, parse_label_selector


@pytest.mark.parametrize(
    ("rule", "condition"),
    [
        ("a", ("zone", "in", ["a"])),
        ("!a", ("zone", "not_in", ["a"])),
        ("in(a)", ("zone", "in", ["a"])),
        ("in(a,b-1.x_y)", ("zone", "in", ["a", "b-1.x_y"])),
        ("!in(a,b)", ("zone", "not_in", ["a", "b"])),
        ("", ("zone", "in", [""])),
        ("in", ("zone", "in", ["in"])),
        ("a" * 63, ("zone", "in", ["a" * 63])),
    ],
)
def test_rules(rule, condition):
    assert parse_label_selector({"zone": rule}) == [condition]


@pytest.mark.parametrize(
    "rule", ["in(", "in()", "in(a", "in(a,)", "in(a b)", "!", "!!a", "a b", "-a", "a-", "a" * 64]
)
def test_malformed_rules(rule):
    with pytest.raises(ValueError, match="Invalid label selector value"):
        parse_label_selector({"zone": rule})


@pytest.mark.parametrize("key", ["zone", "ray.io/node-id", "example.com/a_b.c", "a" * 63])
def test_keys(key):
    assert parse_label_selector({key: "a"})[0][0] == key
    if key != "ray.io/node-id":
        assert check_node_labels({key: "a"}) == {key: "a"}


@pytest.mark.parametrize("key", ["", "/", "a/", "/a", "a b", "-a", "a/b/c", "a" * 64])
def test_malformed_keys(key):
    with pytest.raises(ValueError, match="Invalid label key"):
        parse_label_selector({key: "a"})
    with pytest.raises(ValueError, match="Invalid label key"):
        check_node_labels({key: "a"})


@pytest.mark.parametrize("labels", [{5: "a"}, {"zone": 5}, {"zone": None}])
def test_labels_are_strings(labels):
    with pytest.raises(TypeError):
        parse_label_selector(labels)
    with pytest.raises(TypeError):
        check_node_labels(labels)


def test_the_id_of_a_node_is_no_label_to_give():
    with pytest.raises(ValueError, match="set by the runtime"):
        check_node_labels({"ray.io/node-id": "a"})
    assert check_node_labels(None) == {}
