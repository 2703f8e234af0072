"""Sees from outside who serves and what the FailoverRecords say, on the machine's clock, until it is ended.

usage: witness.py TESTBED NAMESPACE FOLDER SITE...   (see verdict.py for the files in FOLDER)
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

NEW_NETWORK = 0x40000000
PAUSE = 0.1
LIBC = ctypes.CDLL(None, use_errno=True)


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def append(folder, name, line):
    with open(os.path.join(folder, name), "a", encoding="ascii") as file:
        file.write(line + "\n")


def enter(site):
    """Moves this thread into the site's network: what is cut off can be asked only from within. The process itself stays
    outside, so that a power cut of the site does not end it."""
    with open(f"/run/netns/tb-{site}", "rb") as network:
        if LIBC.setns(network.fileno(), NEW_NETWORK) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network of {site}")


def ask(folder, site):
    """The start that answers there, or None."""
    try:
        with open(os.path.join(folder, f"address.{site}"), encoding="ascii") as file:
            address = file.read().strip()
        with socket.create_connection((address, 8080), timeout=0.5) as connection:
            return connection.makefile().readline().strip() or None
    except OSError:
        return None


def read_from_outside(folder, site):
    entered = False
    while True:
        try:
            if not entered:
                enter(site)
                entered = True
            run = ask(folder, site)
            if run:
                append(folder, "served", f"{site} {now():.2f} {run}")
        except OSError:
            pass  # the site does not exist yet
        time.sleep(PAUSE)


class Records:
    """Follows the records of one site, again after each power cut."""

    def __init__(self, testbed, namespace, folder, site):
        said = lambda *arguments: subprocess.run([testbed, *arguments], check=True, capture_output=True, text=True).stdout.strip()
        kubectl = [os.path.join(said("bin"), "kubectl"), "--kubeconfig", said("kubeconfig", site)]
        self.command = ["nsenter", f"--net=/run/netns/tb-{site}", *kubectl, "-n", namespace, "get", "failoverrecords", "-w", "-o", "json"]
        self.folder, self.site, self.last, self.child = folder, site, None, None

    def follow(self):
        decoder = json.JSONDecoder()
        while True:
            self.child = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            text = ""
            while chunk := os.read(self.child.stdout.fileno(), 65536):
                text = (text + chunk.decode()).lstrip()
                while text:
                    try:
                        seen, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:].lstrip()
                    for record in seen.get("items", [seen]):
                        self.note(record["spec"])
            self.child.wait()
            time.sleep(0.5)

    def note(self, spec):
        held = str(spec.get("coldFence", False) or spec.get("humanFence", False)).lower()
        line = f"{spec['role']} {spec['epoch']} {spec['revision']} {held}"
        if line != self.last:
            append(self.folder, "roles", f"{self.site} {now():.2f} {line}")
            self.last = line


def main():
    testbed, namespace, folder, *sites = sys.argv[1:]
    records = [Records(testbed, namespace, folder, site) for site in sites]
    for site in sites:
        threading.Thread(target=read_from_outside, args=(folder, site), daemon=True).start()
    for record in records:
        threading.Thread(target=record.follow, daemon=True).start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for record in records:
        if record.child:
            record.child.kill()
    os._exit(0)


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
main()
