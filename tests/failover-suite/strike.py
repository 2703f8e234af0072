"""Hits processes of a site at a chosen moment.

usage: strike.py writes AUDIT-LOG NAMESPACE FROM-BYTE       prints each write of the operator for that register since then
       strike.py kill SITE AUDIT-LOG NAMESPACE NUMBER       ends the operator right after its write of that number from now on
       strike.py operator SITE                              prints the operator's process id
       strike.py mover SITE NAMESPACE VERB                  stops (SIGSTOP) the next such mover; prints its process id
"""

import json
import os
import signal
import sys
import time

USER = "system:serviceaccount:data-embassy-system:data-embassy-controller"
PATIENCE = 90


def arguments_of(pid):
    """What a process was started with; nothing if it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode(errors="replace").split("\0")
    except OSError:
        return []


def processes(site):
    """(pid, arguments) of every program of ours in that site."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        arguments = arguments_of(pid)
        try:
            with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
                inside = f"/tb-{site}/" in file.read()
        except OSError:
            continue
        if inside and arguments and os.path.basename(arguments[0]) == "data-embassy":
            yield int(pid), arguments


def operator(site):
    for pid, arguments in processes(site):
        if arguments[1] == "controller":
            return pid
    return None


def write_of(line, namespace):
    """What a line of the audit log says that the operator wrote for the register of that namespace, or None."""
    if namespace not in line or USER not in line:
        return None
    event = json.loads(line)
    thing = event.get("objectRef", {})
    ours = event["user"]["username"] == USER and event["stage"] == "ResponseComplete"
    if not ours or event["verb"] not in ("create", "update", "patch", "delete") or thing.get("resource") == "leases":
        return None
    name = thing.get("name", "")
    if thing.get("namespace") != namespace and namespace not in name:
        return None
    part = "/" + thing["subresource"] if "subresource" in thing else ""
    return f"{event['verb']} {thing['resource']}{part} {name} {event['responseStatus']['code']}"


def writes(path, namespace, start):
    with open(path, encoding="utf-8") as file:
        file.seek(start)
        found = [write for line in file if line.endswith("\n") and (write := write_of(line, namespace))]
    print("\n".join(found))


def kill(site, path, namespace, number):
    count, rest, end = 0, "", time.monotonic() + PATIENCE
    while (pid := operator(site)) is None:
        if time.monotonic() > end:
            sys.exit(f"no operator runs in {site}")
        time.sleep(0.1)
    with open(path, encoding="utf-8") as file:
        file.seek(0, os.SEEK_END)
        print("armed", flush=True)
        while time.monotonic() < end:
            rest += file.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                write = write_of(line, namespace)
                count += write is not None
                if write and count == number:
                    # Another run of the suite, beside this one, may have ended it since.
                    if arguments_of(pid)[1:2] != ["controller"]:
                        pid = operator(site)
                    if pid:
                        os.kill(pid, signal.SIGKILL)
                    print(f"killed after write {number}: {write}", flush=True)
                    return
            time.sleep(0.001)
    sys.exit(f"there were only {count} writes")


def mover(site, namespace, verb):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for pid, arguments in processes(site):
            of_it = any(argument.startswith(f"--repository={namespace}/") for argument in arguments)
            if arguments[1:3] == ["mover", verb] and of_it:
                os.kill(pid, signal.SIGSTOP)
                print(pid)
                return
        time.sleep(0.005)
    sys.exit(f"no mover {verb} in {site}")


def main():
    what, *rest = sys.argv[1:]
    if what == "writes":
        writes(rest[0], rest[1], int(rest[2]))
    elif what == "kill":
        kill(rest[0], rest[1], rest[2], int(rest[3]))
    elif what == "operator":
        print(operator(rest[0]) or sys.exit(f"no operator runs in {rest[0]}"))
    elif what == "mover":
        mover(*rest)
    else:
        sys.exit(__doc__)


main()
