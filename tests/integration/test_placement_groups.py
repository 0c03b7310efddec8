"""Placement groups on one node, through the public API."""

import os
import pickle
import time

import pytest

import ray
from integration.programs import is_running, wait_until
from ray._runtime import RUNTIME
from ray.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.placement_group import PlacementGroup, check_placement_group_index
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as InGroup

pytestmark = pytest.mark.timeout(60)


NODE = {"num_cpus": 4, "resources": {"disk": 2, "rack": 1}, "labels": {"zone": "a"}}


@pytest.fixture(scope="module")
def node(start_module_cluster):
    return start_module_cluster(**NODE)


def free_cpus():
    return ray.available_resources().get("CPU", 0)


@pytest.fixture
def group(node):
    """A function that makes placement groups and removes them after the test."""
    made = []

    def make(*args, **kwargs):
        pg = placement_group(*args, **kwargs)
        made.append(pg)
        return pg

    yield make
    for pg in made:
        remove_placement_group(pg)
    wait_until(lambda: free_cpus() == 4)  # the group's resources come back


@ray.remote(num_cpus=1)
def inside():
    return ray.get_runtime_context().get_placement_group_id()


@ray.remote(num_cpus=1)
def pid():
    return os.getpid()


@ray.remote(num_cpus=1)
class Member:
    def group(self):
        return ray.get_runtime_context().get_placement_group_id()

    def child_group(self):
        return ray.get(current.remote())


@ray.remote(num_cpus=0)
def current():
    return get_current_placement_group()


def state_of(pg):
    return placement_group_table(pg)["state"]


def test_strategies_on_one_node(group):
    for strategy in ("PACK", "SPREAD", "STRICT_PACK"):
        pg = group([{"CPU": 1}] * 2, strategy=strategy)
        assert pg.wait(30)
        nodes = placement_group_table(pg)["bundles_to_node_id"]
        assert set(nodes.values()) == {ray.get_runtime_context().get_node_id()}
        remove_placement_group(pg)
    assert group([{"CPU": 1}], strategy="STRICT_SPREAD").wait(30)
    too_many = group([{"CPU": 0.1}] * 2, strategy="STRICT_SPREAD")
    assert not too_many.wait(0.3)
    assert state_of(too_many) == "PENDING"


def test_ready_is_a_reference_to_the_group(group):
    pg = group([{"CPU": 1}, {"disk": 0.5}])
    assert ray.get(pg.ready(), timeout=30) == pg
    assert ray.wait([pg.ready()], timeout=30)[0] != []
    assert ray.get(current.remote()) is None
    assert pg.bundle_specs == [{"CPU": 1.0}, {"disk": 0.5}]
    assert pg.bundle_count == 2

    @ray.remote
    def count(made):
        return made.bundle_count

    assert ray.get(count.remote(pg.ready()), timeout=30) == 2


def test_ready_before_there_is_room(group):
    first = group([{"CPU": 4}])
    assert first.wait(30)
    second = group([{"CPU": 4}])
    ready = second.ready()
    assert ray.wait([ready], timeout=0.3)[0] == []
    remove_placement_group(first)
    assert ray.get(ready, timeout=30) == second


def test_why_a_group_is_not_ready(group):
    assert group([{"CPU": 3}]).wait(30)
    busy, never = group([{"CPU": 2}]), group([{"CPU": 100}])
    for pg, why in ((busy, "waits for room"), (never, "cannot be created")):
        ready = pg.ready()
        wait_until(lambda pg=pg, why=why: why in placement_group_table(pg)["pending_reason"])
        assert why in RUNTIME.require().why_pending(ready)


def test_reservation_is_taken_from_the_node(group):
    pg = group([{"CPU": 2}, {"CPU": 1}])
    assert pg.wait(30)
    wait_until(lambda: free_cpus() == 1)
    assert ray.cluster_resources()["CPU"] == 4
    remove_placement_group(pg)
    wait_until(lambda: free_cpus() == 4)


def test_tasks_and_actors_know_their_group(group):
    pg = group([{"CPU": 1}, {"CPU": 1}])
    assert ray.get(inside.options(scheduling_strategy=InGroup(pg)).remote()) == pg.id.hex()
    member = Member.options(scheduling_strategy=InGroup(pg, 1)).remote()
    assert ray.get(member.group.remote(), timeout=30) == pg.id.hex()
    assert ray.get(inside.remote()) is None
    assert get_current_placement_group() is None


def test_the_older_options_name_a_bundle(group):
    pg = group([{"CPU": 1}])
    task = inside.options(placement_group=pg, placement_group_bundle_index=0)
    assert ray.get(task.remote(), timeout=30) == pg.id.hex()
    assert ray.get(inside.options(placement_group=None).remote(), timeout=30) is None
    with pytest.raises(ValueError, match="deprecated"):
        inside.options(placement_group=pg, scheduling_strategy=InGroup(pg)).remote()
    with pytest.raises(ValueError, match="must be -1"):
        inside.options(placement_group_bundle_index=1).remote()
    with pytest.raises(TypeError, match="placement_group"):
        inside.options(placement_group=5)


def test_tasks_wait_for_a_group_that_is_not_there_yet(group):
    first = group([{"CPU": 4}])
    assert first.wait(30)
    second = group([{"CPU": 2}])
    task = inside.options(scheduling_strategy=InGroup(second)).remote()
    member = Member.options(scheduling_strategy=InGroup(second)).remote()
    called = member.group.remote()
    assert ray.wait([task, called], timeout=0.3)[0] == []
    remove_placement_group(first)
    assert ray.get([task, called], timeout=30) == [second.id.hex()] * 2


def test_a_bundle_limits_what_runs_in_it(group):
    @ray.remote(num_cpus=1)
    def visit():
        start = time.monotonic()
        time.sleep(0.05)
        return start, time.monotonic()

    pg = group([{"CPU": 1}])
    refs = [visit.options(scheduling_strategy=InGroup(pg)).remote() for _ in range(4)]
    spans = sorted(ray.get(refs, timeout=30))
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False))


def test_actors_in_a_full_bundle_wait_for_room(group):
    pg = group([{"CPU": 1}])
    first = Member.options(scheduling_strategy=InGroup(pg)).remote()
    assert ray.get(first.group.remote(), timeout=30) == pg.id.hex()
    second = Member.options(scheduling_strategy=InGroup(pg)).remote()
    waits = second.group.remote()
    assert ray.wait([waits], timeout=0.3)[0] == []
    ray.kill(first)
    assert ray.get(waits, timeout=30) == pg.id.hex()


def test_custom_resources_of_a_bundle_are_its_own(group):
    pg = group([{"CPU": 1, "rack": 1}])
    assert pg.wait(30)
    task = inside.options(resources={"rack": 1}, scheduling_strategy=InGroup(pg))
    assert ray.get(task.remote(), timeout=30) == pg.id.hex()
    outside = inside.options(num_cpus=0, resources={"rack": 1}).remote()
    assert ray.wait([outside], timeout=0.3)[0] == []
    remove_placement_group(pg)
    assert ray.get(outside, timeout=30) is None


def test_nested_tasks_in_a_bundle_do_not_deadlock(group):
    @ray.remote(num_cpus=1)
    def outer():
        return ray.get(inside.remote())

    pg = group([{"CPU": 1}])
    capture = InGroup(pg, placement_group_capture_child_tasks=True)
    assert ray.get(outer.options(scheduling_strategy=capture).remote(), timeout=30) == pg.id.hex()


def test_children_are_captured_only_if_asked(group):
    @ray.remote(num_cpus=1)
    def parent(**child_options):
        return get_current_placement_group(), ray.get(current.options(**child_options).remote())

    pg = group([{"CPU": 2}])
    plain = parent.options(scheduling_strategy=InGroup(pg))
    capture = parent.options(
        scheduling_strategy=InGroup(pg, placement_group_capture_child_tasks=True)
    )
    for _ in range(2):  # Also in a worker that has run both.
        assert ray.get(plain.remote(), timeout=30) == (pg, None)
        assert ray.get(capture.remote(), timeout=30) == (pg, pg)
        assert ray.get(parent.remote(), timeout=30) == (None, None)
    assert ray.get(capture.remote(scheduling_strategy="DEFAULT"), timeout=30) == (pg, None)
    assert ray.get(capture.remote(placement_group=None), timeout=30) == (pg, None)
    with pytest.raises(ValueError, match="cannot fit"):
        ray.get(capture.remote(num_cpus=50), timeout=30)


def test_an_actor_captures_its_children(group):
    pg = group([{"CPU": 2}])
    plain = Member.options(scheduling_strategy=InGroup(pg)).remote()
    assert ray.get(plain.child_group.remote(), timeout=30) is None
    capture = InGroup(pg, placement_group_capture_child_tasks=True)
    capturing = Member.options(scheduling_strategy=capture).remote()
    assert ray.get(capturing.child_group.remote(), timeout=30) == pg


@pytest.mark.parametrize(
    ("index", "resources", "text"),
    [
        (2, {}, "bundle index 2 is invalid"),
        (-2, {}, "bundle index -2 is invalid"),
        (0, {"rack": 9}, "cannot fit"),
        (-1, {"unknown": 1}, "cannot fit"),
    ],
)
def test_requests_that_cannot_fit_are_refused_at_once(group, index, resources, text):
    pg = group([{"CPU": 1}, {"CPU": 1}])
    strategy = InGroup(pg, placement_group_bundle_index=index)
    with pytest.raises(ValueError, match=text):
        inside.options(resources=resources, scheduling_strategy=strategy).remote()
    with pytest.raises(ValueError, match=text):
        Member.options(resources=resources, scheduling_strategy=strategy).remote()


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (([],), {}),
        (([{}],), {}),
        (([{"CPU": 0}],), {}),
        (([{"CPU": -1}],), {}),
        (([{"CPU": "many"}],), {}),
        (({"CPU": 1},), {}),
        (([{"CPU": 1}], "SOMEHOW"), {}),
        (([{"CPU": 1}],), {"lifetime": "long"}),
        (([{"CPU": 1}],), {"_soft_target_node_id": "zz"}),
        (([{"CPU": 1}], "STRICT_PACK"), {"_soft_target_node_id": "zz"}),
        (([{"CPU": 1}],), {"bundle_label_selector": [{"a": "b"}, {"c": "d"}]}),
        (([{"CPU": 1}],), {"bundle_label_selector": [{"a": "in(b"}]}),
        (([{"CPU": 1}],), {"bundle_label_selector": {"a": "b"}}),
    ],
)
def test_bad_arguments(node, args, kwargs):
    with pytest.raises(ValueError):
        placement_group(*args, **kwargs)


def test_infeasible_group_stays_pending_and_says_why(start_group_cluster):
    pg = placement_group([{"CPU": 1000}], name="huge")
    assert pg.wait(0.1) is False
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(pg.ready(), timeout=0.1)
    wait_until(lambda: "cannot be created" in placement_group_table(pg)["pending_reason"])
    assert "huge" in placement_group_table(pg)["pending_reason"]
    ready = pg.ready()
    remove_placement_group(pg)
    assert state_of(pg) == "REMOVED"
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(ready, timeout=30)


@pytest.fixture
def start_group_cluster(start_module_cluster):
    """A session of the test's own, in which waits are explained soon; then the module's anew."""
    ray.shutdown()
    start_module_cluster(num_cpus=1, _system_config={"pending_warning_ms": 50})
    yield
    ray.shutdown()
    start_module_cluster(**NODE)


def test_removal_ends_what_runs_and_what_waits(group):
    @ray.remote(num_cpus=1, max_retries=0)
    def long(path):
        path = path and open(path, "w").close()
        time.sleep(60)

    pg = group([{"CPU": 2}])
    strategy = InGroup(pg)
    actor = Member.options(scheduling_strategy=strategy).remote()
    assert ray.get(actor.group.remote(), timeout=30)
    runs = long.options(scheduling_strategy=strategy).remote(None)
    waits = [long.options(scheduling_strategy=strategy).remote(None) for _ in range(3)]
    pending = Member.options(scheduling_strategy=strategy).remote()
    assert ray.wait([runs, *waits], timeout=0.5)[0] == []
    remove_placement_group(pg)
    with pytest.raises(ray.exceptions.RayError):
        ray.get(runs, timeout=30)
    for ref in waits:
        with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
            ray.get(ref, timeout=30)
    with pytest.raises(ray.exceptions.ActorDiedError, match="placement group"):
        ray.get(actor.group.remote(), timeout=30)
    with pytest.raises(ray.exceptions.ActorPlacementGroupRemoved):
        ray.get(pending.group.remote(), timeout=30)


@pytest.mark.ours_only
def test_removal_costs_no_worker_that_runs_nothing(group):
    pids = []
    for _ in range(10):
        pg = group([{"CPU": 1}])
        pids.append(ray.get(pid.options(scheduling_strategy=InGroup(pg)).remote()))
        remove_placement_group(pg)
        wait_until(lambda: free_cpus() == 4)
        assert ray.get(pid.remote())  # by now the raylet has done all that the removal asks for
    assert [pid for pid in pids if not is_running(pid)] == []


def test_a_removed_group_takes_nothing_more(group):
    pg = group([{"CPU": 1}])
    assert pg.wait(30)
    remove_placement_group(pg)
    remove_placement_group(pg)
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(inside.options(scheduling_strategy=InGroup(pg)).remote(), timeout=30)
    with pytest.raises(ray.exceptions.ActorPlacementGroupRemoved):
        member = Member.options(scheduling_strategy=InGroup(pg)).remote()
        ray.get(member.group.remote(), timeout=30)
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(pg.ready(), timeout=30)
    with pytest.raises(ray.exceptions.RayError, match="removed"):
        pg.wait(1)


def test_tasks_with_retries_end_with_the_group(group):
    @ray.remote(num_cpus=1, max_retries=-1)
    def long():
        time.sleep(60)

    pg = group([{"CPU": 1}])
    ref = long.options(scheduling_strategy=InGroup(pg)).remote()
    assert ray.wait([ref], timeout=0.5)[0] == []
    remove_placement_group(pg)
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(ref, timeout=30)


def test_named_groups(group):
    pg = group([{"CPU": 1}], name="gang")
    found = get_placement_group("gang")
    assert found == pg and found.bundle_specs == [{"CPU": 1.0}]
    with pytest.raises(ray.exceptions.RaySystemError, match="already exists"):
        placement_group([{"CPU": 1}], name="gang")
    with pytest.raises(ValueError, match="nobody"):
        get_placement_group("nobody")
    with pytest.raises(ValueError, match="non-empty"):
        get_placement_group("")
    remove_placement_group(pg)
    with pytest.raises(ValueError, match="gang"):
        get_placement_group("gang")
    assert group([{"CPU": 1}], name="gang").wait(30)


def test_table(group):
    pg = group([{"CPU": 1, "GPU": 0}, {"disk": 1}], strategy="SPREAD", name="tabled")
    assert pg.wait(30)
    row = placement_group_table(pg)
    node_id = ray.get_runtime_context().get_node_id()
    assert row["placement_group_id"] == pg.id.hex()
    assert (row["name"], row["strategy"], row["state"]) == ("tabled", "SPREAD", "CREATED")
    assert row["bundles"] == {0: {"CPU": 1.0}, 1: {"disk": 1.0}}
    assert row["bundles_to_node_id"] == {0: node_id, 1: node_id}
    assert placement_group_table()[pg.id.hex()] == row
    unknown = PlacementGroup(ray.PlacementGroupID.from_random())
    assert placement_group_table(unknown) == {}
    for call in (placement_group_table, remove_placement_group):
        with pytest.raises(TypeError):
            call(5)


def test_handles_are_values(group):
    pg = group([{"CPU": 1}])
    copy = pickle.loads(pickle.dumps(pg))
    assert copy == pg and hash(copy) == hash(pg) and copy.bundle_specs == pg.bundle_specs
    assert pg != group([{"CPU": 1}]) and pg != 5
    assert PlacementGroup.empty().is_empty and not pg.is_empty
    # One that does not know its bundles asks for them.
    assert PlacementGroup(pg.id).bundle_specs == [{"CPU": 1.0}]
    check_placement_group_index(pg, 0)
    with pytest.raises(ValueError, match="invalid"):
        check_placement_group_index(pg, 1)
    with pytest.raises(ValueError, match="must be -1"):
        check_placement_group_index(PlacementGroup.empty(), 0)


def test_labels_of_bundles(group):
    assert group([{"CPU": 1}], bundle_label_selector=[{"zone": "in(a,b)"}]).wait(30)
    assert not group([{"CPU": 1}], bundle_label_selector=[{"zone": "!a"}]).wait(0.3)


def test_groups_are_made_by_tasks_and_passed_on(group):
    @ray.remote(num_cpus=0)
    def make():
        pg = placement_group([{"CPU": 1}])
        return pg, pg.wait(30)

    pg, created = ray.get(make.remote(), timeout=30)
    assert created
    assert ray.get(inside.options(scheduling_strategy=InGroup(pg)).remote(), timeout=30)
    remove_placement_group(pg)


def test_a_group_of_a_detached_actor_ends_with_it(node):
    @ray.remote(num_cpus=0)
    class Maker:
        def make(self):
            return placement_group([{"CPU": 1}])

    maker = Maker.options(name="maker", lifetime="detached").remote()
    pg = ray.get(maker.make.remote(), timeout=30)
    assert pg.wait(30)
    ray.kill(maker)
    wait_until(lambda: state_of(pg) == "REMOVED")
    wait_until(lambda: free_cpus() == 4)


def test_many_groups_at_once(node):
    groups = [placement_group([{"disk": 0.001}]) for _ in range(200)]
    assert all(pg.wait(30) for pg in groups)
    tasks = [
        inside.options(
            num_cpus=0, resources={"disk": 0.001}, scheduling_strategy=InGroup(pg)
        ).remote()
        for pg in groups[::20]
    ]
    assert ray.get(tasks, timeout=30) == [pg.id.hex() for pg in groups[::20]]
    for pg in groups:
        remove_placement_group(pg)
    assert {state_of(pg) for pg in groups[::50]} == {"REMOVED"}
    wait_until(lambda: ray.available_resources()["disk"] == 2)
