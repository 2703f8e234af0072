"""The verdict finds what it is there to find: each test plants one violation into a sound record of a switch."""

import unittest

from verdict import Ack, Allowed, Line, Role, Served, judge


def sound():
    """tallinn writes lines 1-5, hands over, luxembourg writes lines 6-10."""
    acks = [Ack("tallinn", "t1", n, 10 + n, 10.1 + n) for n in range(1, 6)]
    acks += [Ack("luxembourg", "l1", n, 20 + n, 20.1 + n) for n in range(6, 11)]
    served = [Served("tallinn", 12.5, "t1"), Served("luxembourg", 28.5, "l1")]
    roles = [
        Role("tallinn", 1, "Active", "1/tallinn", 1, "false"),
        Role("luxembourg", 2, "Standby", "1/tallinn", 1, "false"),
        Role("tallinn", 16, "Demoting", "1/tallinn", 2, "false"),
        Role("tallinn", 18, "Demoted", "1/tallinn", 3, "false"),
        Role("luxembourg", 20, "Promoting", "2/luxembourg", 2, "false"),
        Role("luxembourg", 25, "Active", "2/luxembourg", 3, "false"),
    ]
    lines = [Line(ack.sequence, ack.site, ack.run, ack.begin) for ack in acks]
    return {"acks": acks, "served": served, "roles": roles, "lines": lines, "allowed": [], "expected": ["tallinn", "luxembourg"]}


class Planted(unittest.TestCase):
    def violations(self, **changes):
        return judge(**{**sound(), **changes})[0]

    def finds(self, sentence, **changes):
        violations = self.violations(**changes)
        self.assertTrue(any(sentence in violation for violation in violations), violations)

    def test_a_sound_switch_is_sound(self):
        self.assertEqual(self.violations(), [])

    def test_two_writers_at_one_instant(self):
        late = Ack("tallinn", "t1", 99, 26.5, 26.6)
        self.finds("two writers at once", acks=sound()["acks"] + [late])

    def test_a_reader_that_got_answers_from_both(self):
        self.finds("two writers at once", served=sound()["served"] + [Served("tallinn", 27.0, "t1")])

    def test_an_overlap_is_allowed_only_where_it_was_caused(self):
        late = Ack("tallinn", "t1", 99, 28.0, 28.1)
        acks = sound()["acks"] + [late]
        window, loss = Allowed("overlap", None, 26, 29), Allowed("loss", "tallinn", 27, 29)
        self.assertEqual(self.violations(acks=acks, allowed=[window, loss]), [])
        self.finds("two writers at once", acks=acks, allowed=[Allowed("overlap", None, 26, 27), loss])

    def test_two_starts_at_one_site_are_no_overlap(self):
        again = [Ack("luxembourg", "l2", n, 30 + n, 30.1 + n) for n in range(11, 13)]
        acks = sound()["acks"] + again
        lines = [Line(ack.sequence, ack.site, ack.run, ack.begin) for ack in acks]
        self.assertEqual(self.violations(acks=acks, lines=lines), [])

    def test_a_write_in_an_epoch_of_the_other_site(self):
        roles = [role for role in sound()["roles"] if role.role != "Promoting" and role.epoch != "2/luxembourg"]
        self.finds("its own record said epoch 1/tallinn", roles=roles)
        self.finds("was written by luxembourg and tallinn", roles=roles)

    def test_an_epoch_that_goes_back(self):
        roles = sound()["roles"] + [Role("luxembourg", 40, "Standby", "1/tallinn", 4, "false")]
        self.finds("went back to epoch 1/tallinn", roles=roles)

    def test_a_revision_that_goes_back(self):
        roles = sound()["roles"] + [Role("luxembourg", 40, "Active", "2/luxembourg", 1, "false")]
        self.finds("revision 1", roles=roles)

    def test_an_acknowledged_line_that_is_gone(self):
        short = [line for line in sound()["lines"] if line.sequence != 5]
        self.finds("1 acknowledged lines are not in the active volume, first line 5 of tallinn", lines=short)

    def test_a_line_of_another_start_does_not_stand_in(self):
        other = [line._replace(run="t2") if line.sequence == 5 else line for line in sound()["lines"]]
        self.finds("not in the active volume", lines=other)

    def test_a_loss_is_allowed_only_for_that_site_and_time(self):
        acks = sound()["acks"]
        lines = [Line(n, "tallinn", "t1", 10.0 + n) for n in range(1, 5)] + [Line(n - 1, "luxembourg", "l1", 20 + n) for n in range(6, 11)]
        acks = acks[:5] + [ack._replace(sequence=ack.sequence - 1) for ack in acks[5:]]
        given = {"acks": acks, "lines": lines}
        self.assertEqual(self.violations(**given, allowed=[Allowed("loss", "tallinn", 14.5, 16)]), [])
        self.finds("not in the active volume", **given, allowed=[Allowed("loss", "tallinn", 15.5, 17)])
        self.finds("not in the active volume", **given, allowed=[Allowed("loss", "luxembourg", 14.5, 16)])

    def test_a_gap_and_a_repetition_in_the_history(self):
        lines = sound()["lines"]
        self.finds("line 6 of luxembourg is followed by line 8", lines=lines[:6] + lines[7:])
        self.finds("line 6 of luxembourg is followed by line 6", lines=lines[:6] + lines[5:])

    def test_a_history_in_which_time_runs_back(self):
        lines = sound()["lines"]
        self.finds("older than the one before it", lines=lines[:6] + [lines[6]._replace(begin=1.0)] + lines[7:])

    def test_silence_is_not_soundness(self):
        self.finds("luxembourg hardly wrote", acks=sound()["acks"][:5], lines=sound()["lines"][:5])
        self.finds("nothing to judge by", served=[])
        self.finds("nothing to judge by", roles=[])
        self.finds("nothing to judge by", lines=[], acks=[], expected=[])


if __name__ == "__main__":
    unittest.main()
