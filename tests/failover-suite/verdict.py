"""Says who wrote when, and what of it must not be, from what was seen of one register on one clock.

usage: verdict.py FOLDER ACTIVE-SITE [SITE-THAT-MUST-HAVE-WRITTEN...]

FOLDER holds one line each, times in seconds of the machine's clock since its boot:
  acknowledged   SITE RUN SEQUENCE BEGIN END         after the line was on disk (tests/failover-suite/writer.yaml)
  served         SITE TIME RUN                       an answer to the reader from outside
  roles          SITE TIME ROLE EPOCH REVISION HELD  each change of a FailoverRecord
  allowed        overlap FROM TO | loss SITE FROM TO what the scenario caused knowingly: a false attestation, a forced takeover
  volume.ACTIVE  SEQUENCE SITE RUN BEGIN             the volume of the site that is active at the end, read on its disk
Prints the reigns and every violation; fails if there is one, or if there is too little to judge by.
"""

import os
import sys
from collections import defaultdict, namedtuple

Ack = namedtuple("Ack", "site run sequence begin end")
Served = namedtuple("Served", "site time run")
Role = namedtuple("Role", "site time role epoch revision held")
Line = namedtuple("Line", "sequence site run begin")
Allowed = namedtuple("Allowed", "what site begin end")

# A clock of hundredths: what is noted at once may differ by one.
GRAIN = 0.02


def fields(folder, name):
    """The complete lines of a file; the last one may be half written."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            if line.endswith("\n"):
                yield line.split()


def read(folder, active):
    """All that was seen."""
    acks = [Ack(f[0], f[1], int(f[2]), float(f[3]), float(f[4])) for f in fields(folder, "acknowledged")]
    served = [Served(f[0], float(f[1]), f[2]) for f in fields(folder, "served")]
    roles = [Role(f[0], float(f[1]), f[2], f[3], int(f[4]), f[5]) for f in fields(folder, "roles")]
    lines = [Line(int(f[0]), f[1], f[2], float(f[3])) for f in fields(folder, "volume." + active) if len(f) == 4]
    allowed = []
    for f in fields(folder, "allowed"):
        site = f[1] if f[0] == "loss" else None
        allowed.append(Allowed(f[0], site, float(f[-2]), float(f[-1])))
    return acks, served, roles, lines, allowed


def runs(acks, served):
    """From when to when each start of the writer wrote or answered: {(site, run): [begin, end, lines]}."""
    found = {}
    for site, run, begin, end, lines in [(a.site, a.run, a.begin, a.end, 1) for a in acks] + [
        (s.site, s.run, s.time, s.time, 0) for s in served
    ]:
        known = found.setdefault((site, run), [begin, end, 0])
        known[0], known[1], known[2] = min(known[0], begin), max(known[1], end), known[2] + lines
    return found


def two_at_once(found, allowed):
    """Spans in which writers of two sites were up, beyond what is allowed, and all spans."""
    wrong, spans = [], []
    for one, (begin, end, _) in found.items():
        for other, (other_begin, other_end, _) in found.items():
            if one[0] >= other[0]:
                continue
            start, stop = max(begin, other_begin), min(end, other_end)
            if start > stop:
                continue
            spans.append((start, stop))
            within = any(a.what == "overlap" and a.begin - GRAIN <= start and stop <= a.end + GRAIN for a in allowed)
            if not within:
                wrong.append(f"two writers at once: {one[0]} and {other[0]} from {start:.2f} to {stop:.2f}")
    return wrong, spans


def by_epoch(acks, served, roles):
    """Writes under an epoch of another site; who wrote in each epoch."""
    history = defaultdict(list)
    for role in sorted(roles, key=lambda role: role.time):
        history[role.site].append(role)
    wrong, writers = [], defaultdict(lambda: defaultdict(int))
    for site, time in [(a.site, a.begin) for a in acks] + [(s.site, s.time) for s in served]:
        before = [role for role in history[site] if role.time <= time]
        if not before:
            continue  # not protected yet
        writers[before[-1].epoch][site] += 1
    for epoch, sites in writers.items():
        for site, count in sites.items():
            if epoch.split("/")[1] != site:
                wrong.append(f"{site} wrote or served {count} times while its own record said epoch {epoch}")
        if len(sites) > 1:
            wrong.append(f"epoch {epoch} was written by {' and '.join(sorted(sites))}")
    return wrong, writers


def epochs_rise(roles):
    """Records whose epoch or revision went back."""
    wrong, last = [], {}
    for role in sorted(roles, key=lambda role: (role.time, role.revision)):
        number, site = role.epoch.split("/")
        key = (int(number), site)
        if role.site in last and (key < last[role.site][0] or role.revision < last[role.site][1]):
            wrong.append(f"the record of {role.site} went back to epoch {role.epoch}, revision {role.revision}")
        last[role.site] = (key, role.revision)
    return wrong


def lost(acks, lines, allowed):
    """Acknowledged lines that the active volume lacks: (not allowed, allowed)."""
    have = {(line.run, line.sequence) for line in lines}
    missing = [ack for ack in acks if (ack.run, ack.sequence) not in have]
    excused, wrong = [], []
    for ack in missing:
        reason = any(a.what == "loss" and a.site == ack.site and a.begin <= ack.begin and ack.end <= a.end + GRAIN for a in allowed)
        (excused if reason else wrong).append(ack)
    return wrong, excused


def history_is_one_line(lines):
    """The active volume is one history: its numbers follow each other, and time does not run back."""
    wrong = []
    for before, after in zip(lines, lines[1:]):
        if after.sequence != before.sequence + 1:
            wrong.append(f"line {before.sequence} of {before.site} is followed by line {after.sequence} of {after.site}")
        if after.begin < before.begin:
            wrong.append(f"line {after.sequence} of {after.site} is older than the one before it, of {before.site}")
    return wrong


def judge(acks, served, roles, lines, allowed, expected):
    """(violations, report)."""
    found = runs(acks, served)
    wrong, spans = two_at_once(found, allowed)
    epochs_wrong, writers = by_epoch(acks, served, roles)
    wrong += epochs_wrong + epochs_rise(roles) + history_is_one_line(lines)
    gone, excused = lost(acks, lines, allowed)
    if gone:
        first = min(gone, key=lambda ack: ack.begin)
        wrong.append(f"{len(gone)} acknowledged lines are not in the active volume, first line {first.sequence} of {first.site} at {first.begin:.2f}")
    for site in expected:
        if sum(ack.site == site for ack in acks) < 3:
            wrong.append(f"nothing to judge by: {site} hardly wrote")
    if not served or not roles or not lines:
        wrong.append("nothing to judge by: the reader, the records or the volume is missing")
    report = [f"{site} {begin:.2f} - {end:.2f}: {count} lines" for (site, _), (begin, end, count) in sorted(found.items(), key=lambda item: item[1])]
    report.append("epochs: " + ", ".join(f"{epoch} by {'+'.join(sorted(sites))}" for epoch, sites in sorted(writers.items(), key=lambda item: (int(item[0].split("/")[0]), item[0]))))
    overlap = max((stop - start for start, stop in spans), default=0)
    report.append(f"{len(acks)} lines acknowledged, {len(served)} answers; longest overlap {overlap:.1f} s; lost {len(gone) + len(excused)} lines, {len(excused)} of them as ordered")
    return wrong, report


def main():
    folder, active, expected = sys.argv[1], sys.argv[2], sys.argv[3:]
    wrong, report = judge(*read(folder, active), expected)
    print("\n".join(report))
    for violation in wrong:
        print(f"VIOLATION {violation}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
