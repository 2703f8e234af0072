//! The real program against a real vault, with the capabilities of its Pod: killed, stopped, without rights.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use data_embassy::{
    mover::{
        backup::{BackupParameters, backup},
        engine::{Engine, new_key},
        outcome::{BackupDone, Outcome, Reason},
    },
    trust::identity::Role,
    vault::client::RepositoryClient,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Bench, CLAIM,
    folder::Folder,
    support::vault::TestVault,
    temporary,
    torture::{MIB, build, change, noise},
};

const PATH: &str = "ns/land/1-tallinn";
/// As in the restore's Pod.
const RESTORE: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+mknod,+setfcap";

struct Site {
    vault: TestVault,
    bench: Bench<RepositoryClient>,
}

impl Site {
    fn new() -> Self {
        let vault = TestVault::start();
        vault.host("tallinn", "ns", 4 << 30);
        let bench = Bench::with(temporary(), vault.repository("tallinn", Role::Mover, PATH));
        let credentials = bench.path("credentials");
        fs::create_dir(&credentials).unwrap();
        let material = vault.material("tallinn", Role::Mover);
        for (name, content) in [
            ("ca.crt", &material.ca),
            ("tls.crt", &material.certificate),
            ("tls.key", &material.key),
            ("repository-key", &bench.key),
        ] {
            fs::write(credentials.join(name), content).unwrap();
        }
        Self { vault, bench }
    }

    fn restore(&self, done: &BackupDone, further: &[&str]) -> Child {
        let _ = fs::remove_file(self.bench.path("termination-log"));
        let path = |name: &str| self.bench.path(name).display().to_string();
        Command::new("setpriv")
            .arg(format!("--bounding-set={RESTORE}"))
            .args(["--inh-caps=-all", env!("CARGO_BIN_EXE_data-embassy"), "mover", "restore"])
            .args([format!("--vault={}", self.vault.url()), format!("--repository={PATH}")])
            .args([format!("--credentials={}", path("credentials")), format!("--volumes={}", path("abroad"))])
            .arg(format!("--termination-log={}", path("termination-log")))
            .args([
                format!("--snapshot={}", done.snapshot),
                format!("--content-digest={}", done.content_digest),
            ])
            .args([format!("--bytes={}", done.bytes), format!("--files={}", done.files)])
            .arg(format!("--claim={CLAIM}"))
            .args(further)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    fn outcome(&self) -> Outcome {
        Outcome::parse(&fs::read_to_string(self.bench.path("termination-log")).unwrap()).unwrap()
    }
}

fn written(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_mins(1), "{what} did not happen");
        sleep(Duration::from_millis(2));
    }
}

/// Most memory that a process had, while it runs.
fn peak_memory(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_killed_restore_is_resumed_and_ends_exact_within_its_memory() {
    let site = Site::new();
    let (home, abroad) = (site.bench.volume("home"), site.bench.volume("abroad"));
    build(&home, 2000);
    for number in 0..5 {
        fs::write(home.join(format!("large-{number}")), noise(100 + number, 60 * MIB)).unwrap();
    }
    let first = site.bench.back_up("home").unwrap();
    let mut child = site.restore(&first, &[]);
    wait_until("half a restore", || written(&abroad) > 100 * MIB);
    signal(&child, Signal::KILL);
    assert!(!child.wait().unwrap().success(), "it was killed before it had finished");
    assert!(!site.bench.path("termination-log").exists());

    // A newer point, on top of the half of an older one.
    change(&home);
    let second = site.bench.back_up("home").unwrap();
    let mut child = site.restore(&second, &["--full-compare"]);
    let mut peak = 0;
    wait_until("the rest of it", || {
        peak = peak.max(peak_memory(&child).unwrap_or_default());
        child.try_wait().unwrap().is_some()
    });
    let Outcome::Restore(done) = site.outcome() else { panic!("{:?}", site.outcome()) };
    assert_eq!((done.bytes, done.files), (second.bytes, second.files));
    assert!(peak < 256 * MIB, "used {} MiB", peak / MIB);
    site.bench.assert_exact();
    assert_eq!(site.bench.back_up("abroad").unwrap().content_digest, second.content_digest);
}

#[test]
fn a_stopped_restore_says_so() {
    let site = Site::new();
    for number in 0..5 {
        let path = site.bench.volume("home").join(number.to_string());
        fs::write(path, noise(number, 60 * MIB)).unwrap();
    }
    let done = site.bench.back_up("home").unwrap();
    let mut child = site.restore(&done, &[]);
    wait_until("the start of a restore", || written(&site.bench.volume("abroad")) > MIB);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let Outcome::Failed(failed) = site.outcome() else { panic!("{:?}", site.outcome()) };
    assert_eq!(failed.reason, Reason::Interrupted);
}

#[test]
fn without_the_right_to_read_a_file_there_is_no_backup() {
    let bench = Bench::new();
    let secret = bench.volume("home").join("secret");
    fs::write(&secret, "register").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let run = |program: &str| {
        let mut child = Command::new("setpriv");
        child.args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups", program]);
        child.args(["process::reads_as_nobody", "--exact", "--ignored", "--nocapture"]);
        child.env("BENCH", bench.path("")).output().unwrap()
    };
    for folder in ["", "home", "home/data", "repository"] {
        let path = bench.path(folder);
        fs::create_dir_all(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    }
    let output = run(std::env::current_exe().unwrap().to_str().unwrap());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("no backup: UnreadableFile"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("/volumes/data/secret"), "{text}");
    assert_eq!(fs::read_dir(bench.path("repository/snapshots")).unwrap().count(), 0);
}

/// Run by the test above as another user.
#[test]
#[ignore = "a part of another test"]
fn reads_as_nobody() {
    let root = PathBuf::from(std::env::var_os("BENCH").unwrap());
    let store = Arc::new(Folder::new(&root.join("repository")));
    let engine = Engine::open_or_create(store, &new_key()).unwrap();
    let parameters = BackupParameters {
        volumes: root.join("home"),
        claims: vec![CLAIM.to_owned()],
        objects: None,
        object_count: 0,
        inventory_base: None,
    };
    let failure = backup(engine, &parameters).unwrap_err();
    println!("no backup: {} {failure}", failure.reason().as_str());
}
