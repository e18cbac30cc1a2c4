from __future__ import annotations

from config import Code

MAIN = '{include}\n[infrastructure]\nname = "acme"\n'
POD = '[region.eu.zone.a.pod.{name}]\ndriver = "simulated"\n'
DISK = '[region.eu.zone.a.pod.{pod}.resource."{name}"]\nclass = "disk"\n'


def resources(infrastructure):
    return [f"{path}/{r.name}" for path, pod in infrastructure.pods() for r in pod.resources]


def test_globs_are_relative_to_the_file_that_has_them(bench):
    bench.write("infra.toml", MAIN.format(include='include = ["pods/*.toml"]'))
    bench.write("pods/b.toml", POD.format(name="b") + DISK.format(pod="b", name="d-{1..2}"))
    bench.write("pods/a.toml", 'include = ["more/a.toml"]\n' + POD.format(name="a"))
    bench.write("pods/more/a.toml", DISK.format(pod="a", name="d"))

    infrastructure = bench.load("infra.toml")

    assert resources(infrastructure) == ["eu/a/a/d", "eu/a/b/d-1", "eu/a/b/d-2"]


def test_pod_may_be_described_in_several_files(bench):
    bench.write("infra.toml", MAIN.format(include='include = ["one.toml", "two.toml"]'))
    bench.write("one.toml", DISK.format(pod="p", name="d-{1..2}"))
    bench.write("two.toml", POD.format(name="p") + DISK.format(pod="p", name="e"))

    infrastructure = bench.load("infra.toml")

    assert resources(infrastructure) == ["eu/a/p/d-1", "eu/a/p/d-2", "eu/a/p/e"]
    ((_, pod),) = infrastructure.pods()
    assert {resource.driver for resource in pod.resources} == {"simulated"}


def test_name_declared_in_two_files_points_at_both(bench):
    bench.write("infra.toml", MAIN.format(include='include = ["one.toml", "two.toml"]'))
    bench.write("one.toml", POD.format(name="p") + DISK.format(pod="p", name="d-{1..3}"))
    two = bench.write("two.toml", DISK.format(pod="p", name="d-2"))

    (problem,) = bench.problems_of("infra.toml")

    assert (problem.code, problem.file, problem.line) == (Code.DUPLICATE.value, str(two), 1)
    assert problem.notes == (f"first at {bench.folder / 'one.toml'}:3:34",)


def test_setting_made_in_two_files_points_at_both(bench):
    bench.write("infra.toml", MAIN.format(include='include = ["one.toml", "two.toml"]'))
    bench.write("one.toml", "[region.eu.zone.a]\nintensity = 1\n")
    two = bench.write("two.toml", "[region.eu.zone.a]\nintensity = 1\n")

    (problem,) = bench.problems_of("infra.toml")

    assert (problem.code, problem.file, problem.line) == (Code.SET_TWICE.value, str(two), 2)
    assert problem.notes == (f"first at {bench.folder / 'one.toml'}:2:1",)


def test_infrastructure_is_named_in_one_file_only(bench):
    bench.write("infra.toml", MAIN.format(include='include = ["one.toml"]'))
    bench.write("one.toml", MAIN.format(include=""))

    (problem,) = bench.problems_of("infra.toml")

    assert problem.code == Code.SET_TWICE.value


def test_cycle_is_shown_where_it_closes(bench):
    bench.write("infra.toml", MAIN.format(include='include = ["sub/a.toml"]'))
    bench.write("sub/a.toml", 'include = ["b.toml"]\n')
    closing = bench.write("sub/b.toml", '\ninclude = ["x.toml",\n  "../infra.toml"]\n')
    bench.write("sub/x.toml", "")

    (problem,) = bench.problems_of("infra.toml")

    assert problem.code == Code.INCLUDE_CYCLE.value
    assert (problem.file, problem.line, problem.column) == (str(closing), 3, 3)
    assert "infra.toml -> a.toml -> b.toml -> infra.toml" in problem.message


def test_file_reached_twice_is_read_once(bench):
    bench.write("infra.toml", MAIN.format(include='include = ["a.toml", "[ab].toml"]'))
    bench.write("a.toml", POD.format(name="a"))
    bench.write("b.toml", 'include = ["a.toml"]\n' + DISK.format(pod="a", name="d"))

    assert resources(bench.load("infra.toml")) == ["eu/a/a/d"]


def test_pattern_without_a_match_is_refused(bench):
    bench.write("infra.toml", MAIN.format(include='include = ["pods/*.toml"]'))

    (problem,) = bench.problems_of("infra.toml")

    assert (problem.code, problem.line, problem.column) == (Code.NO_SUCH_FILE.value, 1, 12)


def test_bad_element_does_not_shift_the_carets_after_it(bench):
    bench.write("infra.toml", MAIN.format(include='include = [7, "gone.toml"]'))

    problems = bench.problems_of("infra.toml")

    assert [(p.code, p.column) for p in problems] == [
        (Code.WRONG_TYPE.value, 12),
        (Code.NO_SUCH_FILE.value, 15),
    ]


def test_problems_of_all_files_come_in_reading_order(bench):
    main = bench.write("infra.toml", MAIN.format(include='include = ["b.toml", 7, "a.toml"]'))
    b = bench.write("b.toml", "mistake = 1\n[region.eu\n")
    a = bench.write("a.toml", "mistake = 1\n")

    problems = bench.problems_of("infra.toml")

    assert [(p.file, p.line) for p in problems] == [
        (str(main), 1),
        (str(b), 1),
        (str(b), 2),
        (str(a), 1),
    ]


def test_included_folder_name_is_no_pattern(bench):
    bench.write("odd[1]/infra.toml", MAIN.format(include='include = ["a.toml"]'))
    bench.write("odd[1]/a.toml", POD.format(name="a"))

    assert [path for path, _ in bench.load("odd[1]/infra.toml").pods()] == ["eu/a/a"]
