# Images, built without a container engine or a registry: buildah copies files, mmdebstrap makes root file systems.

export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

# image_build NAME:TAG FOLDER [ARCHIVE]: prints the archive's path.
image_build() {
  local archive=${3:-$TESTBED_DIR/images/$(echo "$1" | tr '/:' '__').tar}
  mkdir -p "$(dirname "$archive")"; rm -f "$archive.partial"
  buildah build -q --layers=false -t "$1" "$2" >/dev/null
  buildah push -q "$1" "oci-archive:$archive.partial:$1"
  buildah rmi "$1" >/dev/null
  mv "$archive.partial" "$archive"
  echo "$archive"
}

image_load() { "$TESTBED_BIN/ctr" -a "/run/$(namespace "$1").sock" -n k8s.io images import "$2" >/dev/null 2>&1 || fail "$1: cannot import $2"; }

# cached_image NAME:TAG FUNCTION: FUNCTION fills a folder with a Dockerfile and its files, once.
cached_image() {
  local archive folder; archive=$TESTBED_CACHE/images/$(echo "${1#localhost/}" | tr '/:' '__').tar
  [ -e "$archive" ] && return
  mkdir -p "$TESTBED_CACHE/images"; folder=$(mktemp -d "$TESTBED_CACHE/image.XXXX")
  say "building image $1"
  "$2" "$folder"
  image_build "$1" "$folder" "$archive" >/dev/null
  rm -rf "$folder"
}

busybox_image() {
  cp /bin/busybox "$1/busybox"
  printf 'FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nENV PATH=/bin\nENTRYPOINT ["/bin/busybox"]\nCMD ["sleep","infinity"]\n' >"$1/Dockerfile"
}

coredns_image() {
  cp -L "$TESTBED_BIN/coredns" "$1/coredns"
  printf 'FROM scratch\nCOPY coredns /coredns\nENTRYPOINT ["/coredns"]\n' >"$1/Dockerfile"
}

postgres_image() {
  mmdebstrap --quiet --variant=minbase --include=postgresql-15 bookworm "$1/rootfs.tar"
  python3 "$TESTBED_HOME/images/slim.py" "$1/rootfs.tar" "$1/rootfs-slim.tar"; rm "$1/rootfs.tar"
  printf 'FROM scratch\nADD rootfs-slim.tar /\nENV PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin PGDATA=/data/pg LANG=C.UTF-8\nUSER postgres\nENTRYPOINT ["postgres"]\n' >"$1/Dockerfile"
}

build_images() {
  cached_image localhost/pause:dev busybox_image
  cached_image localhost/busybox:dev busybox_image
  cached_image localhost/coredns:1.15.0 coredns_image
  cached_image localhost/postgres:15 postgres_image
}
