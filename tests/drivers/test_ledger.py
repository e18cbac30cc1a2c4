from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from drivers.ledger import audit, audit_records
from drivers.ledger_records import (
    Begun,
    Booted,
    Claimed,
    Ended,
    LedgerError,
    LedgerWriter,
    read_ledger,
)


def begun(number, unit="u", epoch=(1,), device="d"):
    return Begun(
        id=number, device=device, unit=unit, step=0, epoch=epoch, verb="noop", at=float(number)
    )


def ended(number, outcome="done", device="d"):
    effect = outcome == "done"
    return Ended(id=number, device=device, outcome=outcome, effect=effect, at=float(number))


def write(path, *records):
    writer = LedgerWriter(path)
    for record in records:
        writer.append(record)
    writer.flush()
    writer.close()


def test_commands_one_after_another_are_sound():
    found = audit_records([begun(1, "a"), ended(1), begun(2, "b"), ended(2)])

    assert (found.commands, found.effects, found.devices, found.sound) == (2, 2, 1, True)
    assert found.applied == {"a": 1, "b": 1}


def test_command_begun_within_another_overlaps():
    found = audit_records([begun(1, "a"), begun(2, "b"), ended(1), ended(2)])

    assert found.overlapping == 1
    assert "b/0" in found.examples[0]


def test_commands_on_two_devices_do_not_overlap():
    found = audit_records([begun(1), begun(2, device="e"), ended(1), ended(2, device="e")])

    assert found.sound


def test_one_key_with_two_effects_is_a_replay():
    found = audit_records([begun(1), ended(1), begun(2), ended(2)])

    assert (found.replayed, found.applied) == (1, {"u": 1})


def test_remembered_key_is_no_replay():
    assert audit_records([begun(1), ended(1), begun(2), ended(2, "known")]).sound


def test_effect_below_the_fence_is_stale():
    claim = Claimed(device="d", epoch=(2,), at=0.0)

    found = audit_records([claim, begun(1, epoch=(1, 9)), ended(1)])

    assert (found.stale_applied, found.sound) == (1, False)


def test_command_outrun_by_a_claim_is_counted_but_not_stale():
    claim = Claimed(device="d", epoch=(2,), at=0.0)

    found = audit_records([begun(1), claim, ended(1)])

    assert (found.ended_past_claim, found.stale_applied) == (1, 0)


def test_command_without_an_end_is_unfinished():
    assert audit_records([begun(1)]).unfinished == 1


def test_end_without_a_beginning_is_an_error():
    with pytest.raises(LedgerError, match="command 7 ended without having begun"):
        audit_records([ended(7)])


def test_torn_last_line_is_left_out_and_then_cut_off(tmp_path):
    path = tmp_path / "ledger.jsonl"
    write(path, begun(1), ended(1))
    with path.open("ab") as file:
        file.write(b'{"t":"begun","id":2')

    assert len(list(read_ledger(path))) == 2
    write(path, Booted(at=0.0, at_utc=0.0, pid=1))
    assert [type(record) for record in read_ledger(path)] == [Begun, Ended, Booted]


def test_damaged_line_is_named(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"{}\n")

    with pytest.raises(LedgerError, match=r"ledger\.jsonl:1"):
        list(read_ledger(path))


def test_audit_on_the_command_line_says_whether_it_is_sound(tmp_path):
    sound, broken = tmp_path / "sound", tmp_path / "broken"
    write(sound, begun(1), ended(1))
    write(broken, begun(1), begun(2), ended(1), ended(2))

    codes = []
    for path in (sound, broken, tmp_path / "missing"):
        run = subprocess.run(
            [sys.executable, "-m", "drivers.ledger", str(path)], capture_output=True, check=False
        )
        codes.append(run.returncode)

    assert codes == [0, 1, 2]
    assert audit(sound).commands == 1
    assert msgspec.json.encode(audit(broken)).count(b"overlap") >= 1
