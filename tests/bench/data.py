#!/usr/bin/env python3
"""Our mover against restic on the same data, over TLS to a server on this machine, in turn.

usage: data.py [--runs N] [--scale PERCENT] [--delay MS] [--mover PROGRAM] [--vault PROGRAM] [--restic NAME=PROGRAM]...
               [--rest-server PROGRAM] [--report FILE] [--profile]

Each tool keeps its own repository, a new one for each run: ours in the vault (mutual TLS), restic's behind rest-server (TLS). Every step begins with
empty page caches and ends with a sync, both counted in its wall time. Restored trees are compared with rsync. Prints the
median and the least of every figure, and ours as a ratio to each other tool. With --profile: no other tool, one run under `perf`, and
what mover and vault spend their time on.
"""
import argparse, fcntl, json, os, pathlib, random, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time

# Programs end with this one, however it ends.
WITH_US = ["setpriv", "--pdeathsig", "KILL"]
STEPS = ["first backup", "unchanged", "incremental", "full restore", "incremental restore"]


def generate(home: pathlib.Path, scale: float, seed: int) -> None:
    """One large random file, logs, 20,000 small files: 2 GiB at full scale."""
    draw = random.Random(seed)
    home.mkdir(parents=True)
    with open(home / "large", "wb") as out:
        for _ in range(int(1024 * scale)):
            out.write(draw.randbytes(1 << 20))
    (home / "logs").mkdir()
    for n in range(14):
        with open(home / "logs" / f"{n}.log", "w") as out:
            lines = int(500_000 * scale)
            block = [log_line(draw) for _ in range(2000)]
            for line in range(lines):
                out.write(f"{line:09d} {block[draw.randrange(2000)]}")
    for n in range(int(20_000 * scale)):
        folder = home / "small" / f"{n % 200:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        size = draw.randrange(1 << 10, 32 << 10)
        content = draw.randbytes(size) if n % 2 else (log_line(draw) * (size // 60 + 1)).encode()[:size]
        (folder / f"{n}").write_bytes(content)


def log_line(draw: random.Random) -> str:
    return f"GET /parcels/{draw.randrange(10**6)} {draw.choice((200, 200, 200, 304, 404))} {draw.randrange(10**5)} us {draw.random():.12f}\n"


def change(home: pathlib.Path, seed: int) -> None:
    """About 1.6 % of the bytes: places in the large file, appended logs, small files changed, added, removed."""
    draw = random.Random(seed)
    size = (home / "large").stat().st_size
    with open(home / "large", "r+b") as out:
        for _ in range(max(1, size >> 20) * 10 // 1024 or 1):
            out.seek(draw.randrange(max(1, size - (1 << 20))))
            out.write(draw.randbytes(1 << 20))
    for log in sorted((home / "logs").iterdir()):
        with open(log, "a") as out:
            out.writelines(log_line(draw) for _ in range(10_000))
    small = sorted(path for path in (home / "small").rglob("*") if path.is_file())
    chosen = draw.sample(small, len(small) * 220 // 20_000 or 2)
    for path in chosen[len(chosen) // 11:]:
        path.write_bytes(draw.randbytes(8 << 10))
    for path in chosen[: len(chosen) // 11]:
        path.unlink()
    for n in range(len(small) // 1000):
        (home / "small" / f"new-{seed}-{n}").write_bytes(draw.randbytes(8 << 10))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Delay:
    """A TCP proxy that holds every byte back for half a round trip each way."""

    crossings = 1  # of the loopback device by each byte: tool to proxy, proxy to server

    def __init__(self, target: int, milliseconds: float):
        Delay.crossings = 2
        self.target, self.half = target, milliseconds / 2000
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.pump(one, other)

    def pump(self, source, sink):
        import queue
        line = queue.Queue(maxsize=4096)

        def read():
            while data := source.recv(1 << 16):
                line.put((time.monotonic() + self.half, data))
            line.put((0, b""))

        def write():
            while True:
                due, data = line.get()
                if not data:
                    break
                time.sleep(max(0, due - time.monotonic()))
                sink.sendall(data)
            try:
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        for work in (read, write):
            threading.Thread(target=quietly, args=(work,), daemon=True).start()


def quietly(work):
    try:
        work()
    except OSError:
        pass


def on_the_line() -> int:
    """Bytes that crossed the loopback device so far, headers and both directions included."""
    line = next(line for line in pathlib.Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def measure(command, environment=None, cwd=None):
    """Runs one process with cold caches. Returns wall, CPU and memory of it, the bytes that it wrote and that went over the line, and its output."""
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    start, line = time.monotonic(), on_the_line()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen([*WITH_US, *command], env={**os.environ, **(environment or {})}, cwd=cwd, stdout=out, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        subprocess.run(["sync"], check=True)
        wall = time.monotonic() - start
        out.seek(0), errors.seek(0)
        if child.returncode:
            sys.exit(f"{' '.join(command)} failed with {child.returncode}: {errors.read()[-2000:]}")
        figures = {"wall s": wall, "CPU s": usage.ru_utime + usage.ru_stime, "memory MiB": usage.ru_maxrss / 1024,
                   "written MiB": usage.ru_oublock / 2048, "line MiB": (on_the_line() - line) / Delay.crossings / 2**20}
        return figures, out.read()


def exact(one: pathlib.Path, other: pathlib.Path) -> None:
    # Folders' own times belong to whoever restores last; what counts is every file.
    found = subprocess.run(["rsync", "-rlHpognic", "--delete", f"{one}/", f"{other}/"], check=True, capture_output=True, text=True)
    if found.stdout:
        sys.exit(f"{other} differs from {one}:\n{found.stdout[:2000]}")


class Ours:
    def __init__(self, name, arguments, work):
        self.name, self.mover, self.work = name, arguments.mover, work / name
        self.work.mkdir()
        subprocess.run([self.mover, "prepare", self.work], check=True)
        port = free_port()
        self.server = subprocess.Popen(
            [*WITH_US, arguments.vault, "vault", "--site", "luxembourg", "--root", self.work / "store", "--tls", self.work / "vault",
             "--listen", f"127.0.0.1:{port}", "--health-listen", f"127.0.0.1:{free_port()}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_port(port)
        subprocess.run([self.mover, "host", self.work, f"https://127.0.0.1:{port}"], check=True)
        self.port = Delay(port, arguments.delay).port if arguments.delay else port
        self.done = []
        self.step, self.wrap = "", lambda name: []

    def common(self):
        return [self.work, f"https://127.0.0.1:{self.port}", "bench/register/1-tallinn"]

    def backup(self, home):
        before = [json.loads(self.done[-1])["backup"]["inventory"]] if self.done else []
        figures, text = measure([*self.wrap(self.step), self.mover, "backup", *self.common(), home, *before])
        self.done.append(text.strip())
        return figures

    def restore(self, abroad, which):
        previous = [json.loads(self.done[0])["backup"]["snapshot"]] if which else []
        return measure([*self.wrap(self.step), self.mover, "restore", *self.common(), abroad, self.done[which], *previous])[0]

    def end(self):
        self.server.terminate()
        self.server.wait()
        shutil.rmtree(self.work)


class Restic:
    def __init__(self, name, program, arguments, work):
        self.name, self.program, self.work = name, program, work / name
        self.work.mkdir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=rest", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.work / "key.pem",
                        "-out", self.work / "cert.pem"], check=True, capture_output=True)
        port = free_port()
        self.server = subprocess.Popen(
            [*WITH_US, arguments.rest_server, "--path", self.work / "store", "--listen", f"127.0.0.1:{port}", "--no-auth", "--append-only", "--tls",
             "--tls-cert", self.work / "cert.pem", "--tls-key", self.work / "key.pem"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_port(port)
        self.port = Delay(port, arguments.delay).port if arguments.delay else port
        subprocess.run(self.command("init"), env={**os.environ, **self.environment()}, check=True, capture_output=True)

    def environment(self):
        return {"RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": str(self.work / "cache")}

    def command(self, *arguments):
        return [self.program, "-q", "--cacert", self.work / "cert.pem", "-r", f"rest:https://127.0.0.1:{self.port}/", *arguments]

    def backup(self, home):
        return measure(self.command("backup", "--host", "bench", "data"), self.environment(), home)[0]

    def restore(self, abroad, which):
        snapshots = subprocess.run(self.command("snapshots", "--json"), env={**os.environ, **self.environment()}, check=True,
                                   capture_output=True, text=True)
        # The first, the unchanged one and the incremental one.
        snapshot = json.loads(snapshots.stdout)[2 if which else 0]["id"]
        options = ["--delete"] if which and "--delete" in subprocess.run([self.program, "restore", "--help"], capture_output=True, text=True).stdout else []
        return measure(self.command("restore", snapshot, "--target", abroad, *options), self.environment())[0]

    def end(self):
        self.server.terminate()
        self.server.wait()
        shutil.rmtree(self.work)


def await_port(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def one_run(tool, home, changed, abroad):
    """One life of a repository: the figures of every step."""
    figures = {}
    volume = home.parent / "volume"
    shutil.rmtree(volume, ignore_errors=True), shutil.rmtree(abroad, ignore_errors=True)
    subprocess.run(["cp", "-a", home, volume], check=True)
    (abroad / "data").mkdir(parents=True)
    figures["first backup"] = tool.backup(volume)
    figures["unchanged"] = tool.backup(volume)
    figures["full restore"] = tool.restore(abroad, 0)
    exact(volume / "data", abroad / "data")
    subprocess.run(["rsync", "-aH", "--delete", f"{changed}/", f"{volume}/"], check=True)
    figures["incremental"] = tool.backup(volume)
    figures["incremental restore"] = tool.restore(abroad, 2 if isinstance(tool, Ours) else 1)
    if not isinstance(tool, Restic) or tool.name != "restic-debian":
        # Debian's restic cannot remove what the newer snapshot lacks.
        exact(volume / "data", abroad / "data")
    return figures


# What a function is part of, by its name; the first that fits. The kernel's functions are told by perf itself.
PARTS = [
    ("TLS and its cipher", r"ring_core|ring::|aws_lc|rustls|chacha|x25519"),
    ("SHA-256", r"sha256|sha2::|sha2_"),
    ("cipher of the repository", r"poly1305|aes::|aes_|ctr::|cipher::|ghash|polyval"),
    ("compression", r"zstd|huf_|fse_|xxh|hist_"),
    ("chunks, trees, index", r"rustic|data_embassy|rayon|crossbeam|serde|hashbrown"),
    ("HTTP", r"hyper|h2::|http::|axum|tower|tokio|reqwest|mio::"),
    ("copying and zeroing memory", r"memcpy|memmove|memset|memcmp|malloc|free|alloc"),
]


def shares(recorded: pathlib.Path) -> str:
    """Where one process spent its time."""
    text = subprocess.run(["perf", "report", "--stdio", "--no-children", "--sort", "sym", "-F", "overhead,sym", "-i", recorded],
                          check=True, capture_output=True, text=True).stdout
    found = {}
    for percent, kind, symbol in re.findall(r"^\s*([\d.]+)%\s+\[(.)\]\s+(.*)$", text, re.MULTILINE):
        part = "kernel: files, network, memory" if kind == "k" else next((p for p, names in PARTS if re.search(names, symbol, re.I)), "other")
        found[part] = found.get(part, 0) + float(percent)
    return ", ".join(f"{part} {share:.0f} %" for part, share in sorted(found.items(), key=lambda it: -it[1]) if share >= 1)


def profile(tool, home, changed, abroad, recordings):
    """One life of a repository under perf."""
    volume = home.parent / "volume"
    shutil.rmtree(volume, ignore_errors=True)
    subprocess.run(["cp", "-a", home, volume], check=True)
    (abroad / "data").mkdir(parents=True)
    tool.wrap = lambda name: ["perf", "record", "-q", "-F", "499", "-o", recordings / name]

    def step(name, work):
        vault = subprocess.Popen(["perf", "record", "-q", "-F", "499", "-o", recordings / f"{name} vault", "-p", str(tool.server.pid)])
        figures = work()
        vault.send_signal(2)
        vault.wait()
        used = figures["CPU s"] / figures["wall s"]
        print(f"{name}: {figures['wall s']:.1f} s, of which the mover used a processor for {figures['CPU s']:.1f} s ({used:.1f} of {os.cpu_count()})")
        for whose, file in (("mover", recordings / name), ("vault", recordings / f"{name} vault")):
            print(f"  {whose}: {shares(file)}", flush=True)

    tool.step = "first backup"
    step("first backup", lambda: tool.backup(volume))
    tool.step = "full restore"
    step("full restore", lambda: tool.restore(abroad, 0))
    subprocess.run(["rsync", "-aH", "--delete", f"{changed}/", f"{volume}/"], check=True)
    tool.step = "incremental"
    step("incremental", lambda: tool.backup(volume))
    tool.step = "incremental restore"
    step("incremental restore", lambda: tool.restore(abroad, 1))


def table(names, results):
    lines = [f"{'step':<20} {'tool':<15} {'n':>2}" + "".join(f" {name + ' median':>18} {'least':>8}" for name in ("wall s", "CPU s", "memory MiB", "written MiB", "line MiB"))]
    for step in STEPS:
        for name in names:
            runs = [run[step] for run in results[name]]
            cells = "".join(f" {statistics.median(r[k] for r in runs):>18.2f} {min(r[k] for r in runs):>8.2f}" for k in runs[0])
            lines.append(f"{step:<20} {name:<15} {len(runs):>2}{cells}")
    lines.append("")
    for step in STEPS:
        for name in names[1:]:
            pairs = list(zip(results["ours"], results[name]))
            ratio = lambda key: statistics.median(a[step][key] / max(b[step][key], 0.01) for a, b in pairs)
            lines.append(f"{step:<20} ours/{name:<15} wall {ratio('wall s'):.2f}  CPU {ratio('CPU s'):.2f}  memory {ratio('memory MiB'):.2f}  line {ratio('line MiB'):.2f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=100, help="percent of 2 GiB")
    parser.add_argument("--delay", type=float, default=0, help="milliseconds of a round trip")
    parser.add_argument("--mover", required=True)
    parser.add_argument("--vault", required=True)
    parser.add_argument("--rest-server", required=True)
    parser.add_argument("--restic", action="append", default=[])
    parser.add_argument("--work", default="/var/tmp")
    parser.add_argument("--report")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    if arguments.profile and not shutil.which("perf"):
        sys.exit("--profile needs perf: install it (Debian: linux-perf) and run this again")
    lock = open(pathlib.Path(arguments.work) / "data-embassy-bench.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another benchmark runs: two at a time would measure each other; wait for it")
    work = pathlib.Path(arguments.work) / "data-embassy-bench"
    # What a killed run left.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    makers = {"ours": lambda: Ours("ours", arguments, work)}
    for named in arguments.restic:
        name, program = named.split("=", 1)
        makers[name] = lambda name=name, program=program: Restic(name, program, arguments, work)
    names = list(makers)
    try:
        print(f"generating data ({arguments.scale:g} % of 2 GiB) ...", flush=True)
        home, changed = work / "home", work / "changed"
        generate(home / "data", arguments.scale / 100, 1)
        subprocess.run(["cp", "-a", home, changed], check=True)
        change(changed / "data", 2)
        if arguments.profile:
            (work / "perf").mkdir()
            tool = makers["ours"]()
            try:
                profile(tool, home, changed, work / "abroad", work / "perf")
            finally:
                tool.end()
            return
        results = {name: [] for name in names}
        for run in range(arguments.runs):
            for name in names[run % len(names):] + names[: run % len(names)]:
                start = time.monotonic()
                tool = makers[name]()
                try:
                    results[name].append(one_run(tool, home, changed, work / "abroad"))
                finally:
                    tool.end()
                print(f"run {run + 1} of {arguments.runs}, {name}: {time.monotonic() - start:.0f} s", flush=True)
        text = table(names, results)
        print(text)
        if arguments.report:
            pathlib.Path(arguments.report).write_text(text + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
