//! A tree with everything that a copy may get wrong, and changes to it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, chown, lchown, symlink},
        net::UnixListener,
    },
    path::Path,
    process::Command,
};

pub const MIB: u64 = 1024 * 1024;

/// Runs a program; its failure is the test's.
pub fn run(program: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{error}");
    out.into_owned()
}

/// Bytes that do not compress and differ by seed.
pub fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8))
        .flat_map(|_| next().to_le_bytes())
        .take(usize::try_from(length).unwrap())
        .collect()
}

pub fn set_time(path: &Path, seconds: &str) {
    run("touch", &["-h".as_ref(), "-d".as_ref(), seconds.as_ref(), path.as_os_str()]);
}

fn sparse(path: &Path) {
    let file = File::create(path).unwrap();
    file.write_all_at(&noise(7, 3 * MIB), 0).unwrap();
    file.write_all_at(b"end of the hole", 67 * MIB).unwrap();
}

/// Builds the tree.
pub fn build(root: &Path, small_files: u64) {
    fs::create_dir_all(root.join("many")).unwrap();
    for number in 0..small_files {
        let path = root.join("many").join(format!("{:02x}", number % 64));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(format!("f{number}")), noise(number, number % 3000)).unwrap();
    }
    fs::write(root.join("large"), noise(1, 20 * MIB + 123)).unwrap();
    fs::write(root.join("zeros"), vec![0; 3 << 20]).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::create_dir_all(root.join("empty directory/within")).unwrap();
    sparse(&root.join("sparse"));
    links(root);
    names(root);
    special(root);
    metadata(root);
}

fn links(root: &Path) {
    fs::create_dir_all(root.join("links")).unwrap();
    fs::write(root.join("links/a"), noise(2, 2 * MIB)).unwrap();
    fs::hard_link(root.join("links/a"), root.join("links/b")).unwrap();
    fs::hard_link(root.join("links/a"), root.join("z-a")).unwrap();
    symlink("../large", root.join("links/relative")).unwrap();
    symlink("/nowhere/at/all", root.join("links/dangling")).unwrap();
    symlink(OsStr::from_bytes(b"not \xff utf-8"), root.join("links/bytes")).unwrap();
    symlink("..", root.join("links/directory")).unwrap();
    fs::hard_link(root.join("links/relative"), root.join("links/relative-again")).unwrap();
}

fn names(root: &Path) {
    let folder = root.join("names");
    fs::create_dir_all(&folder).unwrap();
    let long = vec![b'x'; 255];
    let names: [&[u8]; 12] = [
        b"new\nline",
        b"not \xff\xfe utf-8",
        b"\xc2",
        b"dots...",
        b" ",
        b"-rf",
        b"back\\slash",
        b"\"quoted\"",
        b"tab\tand bell\x07",
        b"\\xff",
        "żółw".as_bytes(),
        &long,
    ];
    for name in names {
        fs::write(folder.join(OsStr::from_bytes(name)), name).unwrap();
    }
}

fn special(root: &Path) {
    let path = |name: &str| root.join(name).into_os_string();
    run("mkfifo", &[&path("fifo")]);
    run("mknod", &[&path("block"), "b".as_ref(), "7".as_ref(), "300".as_ref()]);
    run("mknod", &[&path("character"), "c".as_ref(), "1".as_ref(), "3".as_ref()]);
    drop(UnixListener::bind(root.join("socket")).unwrap());
}

fn metadata(root: &Path) {
    let path = |name: &str| root.join(name).into_os_string();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2711), ("sticky bit", 0o1777), ("secret", 0)] {
        fs::write(root.join(name), name).unwrap();
        chown(root.join(name), Some(1234), Some(99)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(root.join("acl"), "acl").unwrap();
    run("setfacl", &["-m".as_ref(), "u:1000:rwx,g:2000:r,m::rx".as_ref(), &path("acl")]);
    fs::create_dir(root.join("default acl")).unwrap();
    let default = "d:u:1000:rwx,d:g:5:rx,u:7:rwx";
    run("setfacl", &["-m".as_ref(), default.as_ref(), &path("default acl")]);
    fs::write(root.join("default acl/inherits"), "x").unwrap();
    fs::write(root.join("attributes"), "x").unwrap();
    xattr::set(root.join("attributes"), "user.text", b"value").unwrap();
    xattr::set(root.join("attributes"), "user.bytes", &[0, 255, 10]).unwrap();
    xattr::set(root.join("attributes"), "user.empty", b"").unwrap();
    fs::write(root.join("capable"), "x").unwrap();
    run("setcap", &["cap_net_bind_service=+ep".as_ref(), &path("capable")]);
    lchown(root.join("links/dangling"), Some(55), Some(66)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o2770)).unwrap();
    chown(root, Some(26), Some(26)).unwrap();
    for (name, time) in [
        ("setuid", "2001-02-03T04:05:06.123456789Z"),
        ("secret", "1969-12-31T23:59:58.000000001Z"),
        ("links/dangling", "2010-01-01T00:00:00.5Z"),
        ("fifo", "2011-01-01T00:00:00.25Z"),
        ("empty directory/within", "2012-01-01T00:00:00.999999999Z"),
        (".", "2013-01-01T00:00:00.1Z"),
    ] {
        set_time(&root.join(name), time);
    }
}

/// Changes the tree in all ways that an incremental restore may get wrong.
pub fn change(root: &Path) {
    let large = fs::OpenOptions::new().write(true).open(root.join("large")).unwrap();
    // A zeroed range, a changed one, growth.
    large.write_all_at(&vec![0; 3 << 20], 4 * MIB + 17).unwrap();
    large.write_all_at(b"changed", 12 * MIB).unwrap();
    large.write_all_at(&noise(9, 100), 20 * MIB + 123).unwrap();
    fs::OpenOptions::new().write(true).open(root.join("zeros")).unwrap().set_len(MIB + 1).unwrap();
    fs::OpenOptions::new().write(true).open(root.join("empty")).unwrap().set_len(5 * MIB).unwrap();
    sparse(&root.join("names/now sparse"));
    // Types change into each other.
    fs::remove_file(root.join("fifo")).unwrap();
    fs::create_dir(root.join("fifo")).unwrap();
    fs::write(root.join("fifo/inner"), "x").unwrap();
    fs::remove_dir_all(root.join("empty directory")).unwrap();
    symlink("large", root.join("empty directory")).unwrap();
    fs::remove_file(root.join("links/relative")).unwrap();
    fs::write(root.join("links/relative"), "a file now").unwrap();
    fs::remove_file(root.join("links/bytes")).unwrap();
    symlink("elsewhere", root.join("links/bytes")).unwrap();
    fs::remove_file(root.join("block")).unwrap();
    run("mknod", &[root.join("block").as_os_str(), "b".as_ref(), "7".as_ref(), "301".as_ref()]);
    // A link is broken up with other content, other files are linked.
    fs::remove_file(root.join("links/b")).unwrap();
    fs::write(root.join("links/b"), noise(3, 2 * MIB)).unwrap();
    fs::remove_file(root.join("setgid")).unwrap();
    fs::hard_link(root.join("sticky bit"), root.join("setgid")).unwrap();
    // Renamed, removed, metadata only.
    fs::rename(root.join("many/01"), root.join("many/renamed")).unwrap();
    fs::remove_dir_all(root.join("many/02")).unwrap();
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o6711)).unwrap();
    xattr::remove(root.join("attributes"), "user.text").unwrap();
    xattr::set(root.join("attributes"), "user.bytes", b"other").unwrap();
    run("setfacl", &["-b".as_ref(), root.join("acl").as_os_str()]);
    run("setcap", &["-r".as_ref(), root.join("capable").as_os_str()]);
    fs::write(root.join("capable"), "y").unwrap();
}

/// What `rsync` finds to differ, contents and hard links included; nothing for an exact copy.
pub fn differences(left: &Path, right: &Path) -> String {
    let with_slash = |path: &Path| format!("{}/", path.display());
    let (left, right) = (with_slash(left), with_slash(right));
    run("rsync", &["-aHAXXnci".as_ref(), "--delete".as_ref(), left.as_ref(), right.as_ref()])
}
