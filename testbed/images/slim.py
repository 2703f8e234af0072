"""Leaves out of a Debian root file system what a database server never reads: usage: slim.py IN.tar OUT.tar"""
import re
import sys
import tarfile

DROP = re.compile(
    r"^\./(usr/share/(perl|perl5|i18n|man|doc|lintian|bash-completion|common-licenses|zoneinfo/(right|posix))/"
    r"|var/lib/(dpkg|apt)/|var/cache/|var/lib/postgresql/15/|var/log/"
    r"|usr/lib/x86_64-linux-gnu/(perl|perl-base|gconv)/|usr/bin/perl"
    r"|usr/lib/x86_64-linux-gnu/(libLLVM|libz3|libperl)|usr/lib/postgresql/15/lib/(llvmjit|bitcode)"
    r"|usr/lib/(apt|systemd)/|usr/share/postgresql/15/man|boot/|dev/)"
)

with tarfile.open(sys.argv[1]) as source, tarfile.open(sys.argv[2], "w") as target:
    for member in source:
        if not DROP.match(member.name):
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
