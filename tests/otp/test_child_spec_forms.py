from itertools import product
from typing import ClassVar

import pytest

from otp import (
    BRUTAL_KILL,
    INFINITY,
    AutoShutdown,
    ChildSpec,
    ChildSpecError,
    ChildType,
    DynamicSupervisor,
    GenServer,
    Global,
    Ignore,
    Reply,
    Restart,
    StartError,
    Supervisor,
    SupervisorFlags,
    SupervisorFlagsError,
    dynamic_supervisor,
    supervisor,
)
from otp.registry import Registry, Via


class Named(GenServer[str]):
    def __init__(self, word="none", suffix=""):
        self.word = word + suffix

    def init(self):
        return self.word

    def handle_call(self, request, from_, state):
        return Reply(state, state)


class Custom(DynamicSupervisor):
    spec_options: ClassVar = {"id": "own", "restart": Restart.TEMPORARY, "shutdown_s": 7.0}


def words(lab, sup):
    return [lab.runtime.handle(pid).call("word") for pid in lab.children(sup).values()]


def judge(form, auto_shutdown):
    """The spec, or the fault that was found."""
    try:
        return supervisor.check_childspecs([form], auto_shutdown)[0]
    except ChildSpecError as error:
        return error.fault


# Mappings.


@pytest.mark.otp("supervisor_SUITE", "sup_start_map")
def test_mapping_gets_the_documented_defaults(lab):
    spec = supervisor.child_spec({"id": "a", "start": Ignore})
    inner = supervisor.child_spec({"id": "a", "start": Ignore, "type": "supervisor"})

    assert spec == ChildSpec("a", Ignore)
    assert (spec.restart, spec.type, spec.significant) == (
        Restart.PERMANENT,
        ChildType.WORKER,
        False,
    )
    assert (spec.shutdown_s, inner.shutdown_s) == (5.0, INFINITY)


@pytest.mark.otp("supervisor_SUITE", "sup_start_map_faulty_specs")
@pytest.mark.parametrize(
    ("form", "fault"),
    [
        ({"start": Ignore}, "missing_id"),
        ({"id": "a"}, "missing_start"),
        ("a", ("invalid_child_spec", "a")),
    ],
)
def test_faulty_forms_have_three_distinct_errors(lab, form, fault):
    with pytest.raises(StartError) as at_start:
        lab.start(form)
    with pytest.raises(ChildSpecError) as by_hand:
        lab.do(supervisor.start_child(lab.start().pid, form))

    assert at_start.value.reason == ("start_spec", fault)
    assert by_hand.value.fault == fault


@pytest.mark.otp("supervisor_SUITE", "sup_start_map_faulty_specs")
@pytest.mark.otp("supervisor_SUITE", "sup_flags")
def test_unknown_keys_of_mappings_are_ignored(lab):
    child = {"id": "a", "start": Ignore, "colour": "blue"}
    sup = lab.runtime.start(Supervisor({"intensity": 2, "colour": "red"}, [child]))

    assert lab.children(sup) == {"a": None}


@pytest.mark.otp("supervisor_SUITE", "child_specs_map")
@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"start": None}, ("invalid_mfa", None)),
        ({"restart": "always"}, ("invalid_restart_type", "always")),
        ({"shutdown_s": -1}, ("invalid_shutdown", -1)),
        ({"shutdown_s": "soon"}, ("invalid_shutdown", "soon")),
        ({"type": "wrecker"}, ("invalid_child_type", "wrecker")),
        ({"significant": 1}, ("invalid_significant", 1)),
        ({"restart": "always", "type": "wrecker"}, ("invalid_restart_type", "always")),
    ],
)
def test_bad_mapping_names_its_first_fault(fields, fault):
    with pytest.raises(ChildSpecError) as caught:
        supervisor.check_childspecs([{"id": "a", "start": Ignore, **fields}])

    assert caught.value.fault == fault


@pytest.mark.otp("supervisor_SUITE", "child_specs")
@pytest.mark.otp("supervisor_SUITE", "child_specs_map")
@pytest.mark.parametrize("auto_shutdown", [None, *AutoShutdown])
def test_every_combination_of_options_is_judged_as_otp_does(auto_shutdown):
    options = product(
        ["permanent", "transient", "temporary"],
        [True, False],
        [0, 2.5, "infinity", "brutal_kill"],
        ["worker", "supervisor"],
    )
    for restart, significant, shutdown_s, kind in options:
        form = {
            "id": "a",
            "start": (Ignore, ()),
            "restart": restart,
            "significant": significant,
            "shutdown_s": shutdown_s,
            "type": kind,
        }
        if significant and restart == "permanent":
            fault = ("bad_combination", (("restart", "permanent"), ("significant", True)))
        elif significant and auto_shutdown is AutoShutdown.NEVER:
            fault = ("bad_combination", (("auto_shutdown", "never"), ("significant", True)))
        else:
            fault = None
        verdict = judge(form, auto_shutdown)
        if fault is None:
            wanted = {"infinity": INFINITY, "brutal_kill": BRUTAL_KILL}.get(shutdown_s, shutdown_s)
            assert (verdict.restart.value, verdict.shutdown_s) == (restart, wanted)
            assert verdict.type.value == kind
        else:
            assert verdict == fault


def test_significant_child_is_refused_where_nothing_shuts_down(lab):
    spec = lab.spec("a", restart=Restart.TRANSIENT, significant=True)

    with pytest.raises(StartError) as at_start:
        lab.start(spec)
    with pytest.raises(ChildSpecError):
        lab.do(supervisor.start_child(lab.start().pid, spec))
    assert at_start.value.reason[1][0] == "bad_combination"


@pytest.mark.otp("supervisor_SUITE", "sup_flags")
@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"strategy": "one_for_none"}, ("invalid_strategy", "one_for_none")),
        ({"intensity": -1}, ("invalid_intensity", -1)),
        ({"period_s": 0}, ("invalid_period", 0)),
        ({"period": 5}, ("invalid_period", 5)),  # not silently 5.0 s, the default
        ({"auto_shutdown": "now"}, ("invalid_auto_shutdown", "now")),
    ],
)
def test_bad_flag_in_a_mapping_ends_the_start(lab, flags, fault):
    class FromInit(Supervisor):
        def init(self):
            return flags, []

    with pytest.raises(StartError) as caught:
        lab.runtime.start(FromInit())

    assert caught.value.reason == ("supervisor_data", fault)


@pytest.mark.otp("supervisor_SUITE", "child_specs")
@pytest.mark.parametrize("forms", ["a", 3, {"id": "a", "start": Ignore}])
def test_check_of_something_that_is_no_list_is_refused(forms):
    with pytest.raises(ChildSpecError) as caught:
        supervisor.check_childspecs(forms)

    assert caught.value.fault == ("badarg", forms)


def test_mapping_with_a_shutdown_that_has_no_unit_is_refused():
    with pytest.raises(ChildSpecError, match=r"'a': .* shutdown_s") as caught:
        supervisor.child_spec({"id": "a", "start": Ignore, "shutdown": "brutal_kill"})

    assert caught.value.fault == ("invalid_shutdown", "brutal_kill")


@pytest.mark.parametrize("children", [Ignore, "a", {"id": "a"}])
def test_children_that_are_no_list_are_refused_at_once(children):
    with pytest.raises(ChildSpecError, match="no list of specs"):
        Supervisor(children=children)


def test_error_about_a_word_names_the_members_to_choose_from():
    with pytest.raises(ChildSpecError, match=r"'transient', only .*Restart\.TRANSIENT"):
        ChildSpec("a", Ignore, restart="transient")
    with pytest.raises(SupervisorFlagsError, match=r"'one_for_all', only .*Strategy\.ONE_FOR_ALL"):
        SupervisorFlags(strategy="one_for_all")


# Classes.


def test_start_gets_the_arguments_of_the_mapping(lab):
    def start(word, suffix):
        return Named.child_spec(word, suffix=suffix).start(word)

    sup = lab.start({"id": "a", "start": (start, ("one", "!"))})

    assert words(lab, sup) == ["one!"]


@pytest.mark.otp("Elixir", "supports new child spec as tuple")
def test_class_with_argument_and_mapping_are_specs(lab):
    sup = lab.runtime.start(DynamicSupervisor())
    made = Named.child_spec("three")
    mapping = {"id": "x", "start": made.start, "args": ("two",)}
    pids = [
        lab.do(dynamic_supervisor.start_child(sup.pid, form))
        for form in ((Named, "one"), mapping, Named, made)
    ]

    spoken = [lab.runtime.handle(pid).call("word") for pid in pids]
    assert spoken == ["one", "two", "none", "three"]
    with pytest.raises(ChildSpecError):
        lab.do(dynamic_supervisor.start_child(sup.pid, (int, 3)))


def test_child_spec_takes_overrides(lab):
    spec = supervisor.child_spec((Named, "one"), id="other", restart=Restart.TEMPORARY)
    sup = lab.start(spec)

    assert list(lab.children(sup)) == ["other"]
    assert words(lab, sup) == ["one"]
    assert spec.restart is Restart.TEMPORARY


@pytest.mark.otp("Elixir", "use/2 generates child_spec/1")
def test_class_gives_its_own_spec_with_its_own_options():
    plain, custom = DynamicSupervisor.child_spec(), Custom.child_spec()

    assert (plain.id, plain.type, plain.restart) == (
        DynamicSupervisor,
        ChildType.SUPERVISOR,
        Restart.PERMANENT,
    )
    assert plain.shutdown_s == INFINITY
    assert (custom.id, custom.restart, custom.shutdown_s) == ("own", Restart.TEMPORARY, 7.0)


@pytest.mark.otp(
    "Elixir", "multiple supervisors can be supervised and identified with simple child spec"
)
def test_id_of_a_dynamic_supervisor_is_its_name(lab):
    lab.runtime.start(Registry("names"))
    names = ["one", Global("two"), Via("names", "three")]
    named = [DynamicSupervisor.child_spec(name=name) for name in names]
    sup = lab.start(*named, DynamicSupervisor)

    assert list(lab.children(sup)) == [*names, DynamicSupervisor]
    for name in names:
        assert lab.runtime.runtime.whereis(name) is lab.pid(sup, name)
    with pytest.raises(StartError) as twice:
        lab.start(DynamicSupervisor, DynamicSupervisor)
    assert twice.value.reason == (
        "start_spec",
        ("duplicate_child_name", DynamicSupervisor),
    )


def test_supervisor_itself_can_be_a_child_by_its_class(lab):
    inner = Supervisor.child_spec(SupervisorFlags(), [Named])
    sup = lab.start(inner)
    handle = lab.runtime.handle(lab.pid(sup, Supervisor))

    assert words(lab, handle) == ["none"]


class Broken(Named):
    @classmethod
    def child_spec(cls, *args, **options):
        raise RuntimeError("no spec")


@pytest.mark.parametrize(
    "form",
    [
        Broken,
        (Broken, 1),
        {"id": "a", "start": Ignore, "args": 3},
        {"id": "a", "start": (Ignore, None)},
        {"id": ["no hash"], "start": Ignore},
        {"id": "a", "start": Ignore, "restart": []},
        {"id": "a", "start": Ignore, "type": {}},
        {"id": "a", "start": Ignore, "shutdown_s": []},
        None,
        3,
        [],
        ("a",),
    ],
)
def test_supervisor_survives_any_nonsense_as_a_spec(lab, form):
    sup = lab.start()

    with pytest.raises(ChildSpecError):
        lab.do(supervisor.start_child(sup.pid, form))
    assert sup.is_alive()


@pytest.mark.parametrize(
    "ask",
    [
        supervisor.restart_child,
        supervisor.terminate_child,
        supervisor.delete_child,
        supervisor.which_child,
        supervisor.get_childspec,
    ],
)
def test_id_without_a_hash_is_refused_in_the_caller(lab, ask):
    sup = lab.start()

    with pytest.raises(TypeError):
        lab.do(ask(sup.pid, ["no hash"]))
    assert sup.is_alive()
