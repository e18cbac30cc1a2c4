from hypothesis import given
from hypothesis import strategies as st

from automation.mailbox import Mailbox, Offer
from rpc.messages import Command, Unit


def unit(name: str, commands: int = 1, first: int = 0) -> Unit:
    return Unit(name, 1, 1, first, (Command("noop", {}),) * commands)


def test_mailbox_gives_units_back_in_order():
    mailbox = Mailbox(4)
    for name in "abc":
        mailbox.offer(unit(name), now=1.0)

    taken = []
    while mailbox:
        hand, _ = mailbox.take(now=2.0)
        taken.append(hand.unit.id)
        mailbox.hand = None

    assert taken == ["a", "b", "c"]


def test_mailbox_tells_how_long_a_unit_waited():
    mailbox = Mailbox(4)
    mailbox.offer(unit("a"), now=1.0)

    _, wait_s = mailbox.take(now=3.5)

    assert wait_s == 2.5


def test_full_mailbox_refuses_and_keeps_what_it_has():
    mailbox = Mailbox(1)
    mailbox.offer(unit("a"), now=0.0)

    assert mailbox.offer(unit("b"), now=0.0) is Offer.FULL
    assert mailbox.ids() == ("a",)


def test_unit_in_hand_is_not_taken_twice():
    mailbox = Mailbox(1)
    mailbox.offer(unit("a"), now=0.0)
    mailbox.take(now=0.0)

    assert mailbox.offer(unit("a"), now=0.0) is Offer.HELD
    assert len(mailbox) == 0


def test_unit_in_hand_does_not_use_up_the_capacity():
    mailbox = Mailbox(1)
    mailbox.offer(unit("a"), now=0.0)
    mailbox.take(now=0.0)

    assert mailbox.offer(unit("b"), now=0.0) is Offer.TAKEN


def test_removed_unit_leaves_the_others_in_order():
    mailbox = Mailbox(4)
    for name in "abc":
        mailbox.offer(unit(name), now=0.0)

    assert mailbox.remove("b") == unit("b")
    assert mailbox.remove("b") is None
    assert mailbox.ids() == ("a", "c")


def test_flush_names_the_waiting_and_leaves_the_hand():
    mailbox = Mailbox(4)
    for name in "abc":
        mailbox.offer(unit(name), now=0.0)
    mailbox.take(now=0.0)

    assert [flushed.id for flushed in mailbox.flush()] == ["b", "c"]
    assert mailbox.ids() == ("a",)


def test_hand_starts_after_the_commands_that_are_applied():
    mailbox = Mailbox(1)
    mailbox.offer(unit("a", commands=2, first=2), now=0.0)

    hand, _ = mailbox.take(now=0.0)

    assert hand.is_done


@given(st.lists(st.tuples(st.sampled_from("otrf"), st.integers(0, 6))))
def test_every_unit_leaves_exactly_once(steps):
    mailbox, inside, left = Mailbox(3), [], []
    for step, number in steps:
        name = f"u{number}"
        if step == "o" and name not in left and mailbox.offer(unit(name), 0.0) is Offer.TAKEN:
            inside.append(name)
        elif step == "t" and mailbox and mailbox.hand is None:
            left.append(mailbox.take(0.0)[0].unit.id)
            assert left[-1] == inside.pop(0)
            mailbox.hand = None
        elif step == "r" and mailbox.remove(name) is not None:
            inside.remove(name)
            left.append(name)
        elif step == "f":
            left += [flushed.id for flushed in mailbox.flush()]
            inside.clear()

    assert list(mailbox.ids()) == inside
    assert len(left) == len(set(left))
