import pytest

from otp import (
    CrashReport,
    ExitError,
    GenServer,
    ProgressReport,
    Restart,
    ServerReport,
    Stop,
    SupervisorReport,
    format_report,
    proc_lib,
)

DEEP = ["a", ["b", ["c", ["d", "e"]]]]


class Deep(GenServer[object]):
    def init(self):
        return "the state"

    def handle_cast(self, request, state):
        return Stop(request, state)


@pytest.fixture
def reports(runtime):
    seen = []
    runtime.reports.subscribe(seen.append)
    return lambda kind: next(report for report in seen if isinstance(report, kind))


def of_supervisor(lab):
    """An error report and a progress report."""
    sup = lab.start(lab.spec("a"), name="top")
    lab.end(lab.pid(sup, "a"), ("because", DEEP))
    error = next(each for each in lab.reports if isinstance(each, SupervisorReport))
    return error, next(each for each in lab.reports if isinstance(each, ProgressReport))


@pytest.mark.otp("supervisor_SUITE", "format_log_2")
def test_supervisor_reports_are_written_on_several_lines_or_one(lab):
    error, progress = of_supervisor(lab)
    lines = format_report(error).splitlines()
    line = format_report(error, single_line=True)

    assert lines[0] == "child_terminated in supervisor: " + error.supervisor
    assert "  reason: ('because', ['a', ['b', ['c', [...]]]])" in lines
    assert "  id: 'a'" in lines
    assert "\n" not in line
    assert line.startswith(lines[0] + "; reason: ('because'")
    assert format_report(progress).splitlines()[0].startswith("progress in supervisor: ")
    assert "started: " + progress.started.pid in format_report(progress, single_line=True)


@pytest.mark.otp("supervisor_SUITE", "format_log_2")
@pytest.mark.parametrize("single_line", [False, True])
def test_depth_and_length_of_supervisor_reports_are_limited(lab, single_line):
    error, progress = of_supervisor(lab)
    shallow = format_report(error, depth=2, single_line=single_line)

    assert "('because', ['a', [...]])" in shallow
    for report in (error, progress):
        full = format_report(report, single_line=single_line)
        short = format_report(report, chars_limit=90, single_line=single_line)
        assert len(short) <= 90 < len(full)


@pytest.mark.otp("supervisor_SUITE", "format_log_2")
def test_children_that_ended_alike_are_written_as_a_number(lab):
    sup = lab.start_dynamic()
    lab.stop_reasons["a"] = "odd"
    for _ in range(3):
        lab.add(sup, lab.spec("a", restart=Restart.PERMANENT))
    sup.exit("shutdown")
    lab.runtime.run_until_idle()
    [report] = [each for each in lab.reports if isinstance(each, SupervisorReport)]
    text = format_report(report)

    assert "  nb_children: 3\n" in text
    assert "offender" not in text


@pytest.mark.otp("gen_server_SUITE", "format_log_2")
@pytest.mark.parametrize("single_line", [False, True])
def test_report_of_a_server_is_written_with_limits(runtime, reports, single_line):
    server = runtime.start(Deep())
    server.cast(DEEP)
    runtime.run_until_idle()
    report = reports(ServerReport)
    full = format_report(report, single_line=single_line)
    shallow = format_report(report, depth=1, single_line=single_line)
    short = format_report(report, chars_limit=60, single_line=single_line)

    assert "reason: ['a', ['b', ['c', ['d', 'e']]]]" in full
    assert "last message: ['a', " in full
    assert "state: 'the state'" in full
    assert "reason: ['a', [...]]" in shallow
    assert len(short) <= 60
    assert ("\n" in full) != single_line


@pytest.mark.otp("proc_lib_SUITE", "t_format")
@pytest.mark.parametrize("single_line", [False, True])
def test_crash_report_is_shortened_by_depth_and_length(runtime, reports, single_line):
    async def parent():
        proc_lib.spawn(failing)

    async def failing():
        raise ExitError([["ä", "日本"], list(range(40)), DEEP])

    runtime.runtime.spawn(parent)
    runtime.run_until_idle()
    report = reports(CrashReport)
    full = proc_lib.format(report, single_line=single_line)
    shallow = proc_lib.format(report, depth=1, single_line=single_line)
    short = proc_lib.format(report, chars_limit=100, single_line=single_line)

    assert "reason: [['ä', '日本'], [0, 1, 2, 3, 4, 5, 6, 7, ...]" in full
    assert "reason: [[...], [...], [...]]" in shallow
    assert len(short) <= 100
    assert ("\n" in full) != single_line


def test_longest_parts_of_a_report_are_cut_first(runtime, reports):
    server = runtime.start(Deep())
    server.cast("x" * 300)
    runtime.run_until_idle()
    text = format_report(reports(ServerReport), chars_limit=200)

    assert "state: 'the state'" in text
    assert text.count("…") == 2
    assert len(text) <= 200
