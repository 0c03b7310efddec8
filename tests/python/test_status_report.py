"""What ``ray status`` prints of a state."""

from ray._cli.status import render


def node(number, **fields):
    return {
        "node_id": f"{number:02x}" * 28,
        "alive": True,
        "draining": False,
        "death_reason": "",
        "ip": f"10.0.0.{number}",
        "is_head": False,
        "labels": {},
        "total": {"CPU": 4.0, "memory": 8 * 2**30, f"node:10.0.0.{number}": 1.0},
        "available": {"CPU": 4.0, "memory": 8 * 2**30, f"node:10.0.0.{number}": 1.0},
        "demands": [],
        "spilled_bytes": 0,
        **fields,
    }


def report(*nodes, actors=(), groups=(), verbose=False):
    state = {"nodes": nodes, "pending_actors": actors, "pending_groups": groups}
    return "\n".join(render("Cluster", state, verbose))


def section(text, title):
    lines = text.split(f"\n{title}\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return [line.strip() for line in lines]


def test_usage_is_summed_over_living_nodes():
    text = report(
        node(1, is_head=True, available={"CPU": 1.5, "memory": 6 * 2**30}),
        node(2, total={"CPU": 2.0, "GPU": 1.0}, available={"CPU": 2.0, "GPU": 1.0}),
        node(3, alive=False, death_reason="its raylet is gone"),
    )
    assert section(text, "Usage") == [
        "2.5 of 6 CPU",
        "0 of 1 GPU",
        "2.00 GiB of 8.00 GiB memory",
    ]
    assert section(text, "Nodes") == ["010101010101 10.0.0.1 (head)", "020202020202 10.0.0.2"]
    assert section(text, "Dead nodes") == ["030303030303 10.0.0.3: its raylet is gone"]
    assert section(text, "Demands") == ["nothing waits for resources"]
    assert "Pending" not in text


def test_spilled_objects_are_shown_where_there_are_some():
    text = report(node(1, spilled_bytes=2**30), node(2, spilled_bytes=2**29), verbose=True)
    assert section(text, "Usage")[-1] == "1.50 GiB of objects spilled to disk"
    assert section(text, f"Usage of node {'02' * 28}")[-1] == "0.50 GiB of objects spilled to disk"
    assert "spilled" not in report(node(1))


def test_demands_of_one_shape_are_counted_over_nodes():
    waits = {"resources": {"CPU": 1.0}, "count": 3, "infeasible": False, "reason": ""}
    never = {"resources": {"tape": 2.0}, "count": 1, "infeasible": True, "reason": "None has it."}
    text = report(node(1, demands=[waits, never]), node(2, demands=[waits]))
    assert section(text, "Demands") == [
        "6 x (1 CPU)",
        "1 x (2 tape): no node can ever hold it. None has it.",
    ]


def test_what_waits_says_why():
    actor = {
        "actor_id": "aa" * 16,
        "class_name": "Model",
        "name": "main",
        "state": "PENDING_CREATION",
        "pending_reason": "No node has 8 GPU.",
    }
    group = {
        "placement_group_id": b"\xbb" * 18,
        "name": "",
        "strategy": "STRICT_PACK",
        "bundles": [{"CPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}],
        "pending_reason": "No node has room for all of it.",
    }
    text = report(node(1), actors=[actor], groups=[group])
    assert section(text, "Pending actors") == [
        f"Model {'aa' * 16} named 'main': No node has 8 GPU."
    ]
    assert section(text, "Pending placement groups") == [
        f"{'bb' * 18} STRICT_PACK (2 CPU) + (2 CPU, 1 GPU): No node has room for all of it."
    ]


def test_verbose_report_has_each_node():
    text = report(node(1, labels={"zone": "a"}, draining=True), node(2), verbose=True)
    assert section(text, "Nodes")[0] == f"{'01' * 28} 10.0.0.1 (draining) zone=a"
    assert section(text, f"Usage of node {'02' * 28}")[0] == "0 of 4 CPU"
