# Builds the cluster's programs from their Go modules into a cache keyed by the module sums, once.

MODULES=(etcd kubernetes containerd cilium local-path coredns helm cyclonus kubeconform csi)

# Folder of one module's binaries; it exists only once the build is whole.
module_folder() {
  local sum; sum=$(find "$TESTBED_HOME/modules/$1" -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-16)
  echo "$TESTBED_CACHE/$1-$sum"
}

module_flags() {
  case $1 in
    kubernetes) echo "-X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37" ;;
    cilium) echo "-X github.com/cilium/cilium/pkg/version.ciliumVersion=1.20.2" ;;
  esac
}

build_module() {
  local module=$1 folder; folder=$(module_folder "$module")
  local source=$TESTBED_HOME/modules/$module partial=$folder.partial tags=""
  [ "$module" = cilium ] && tags=osusergo
  rm -rf "$partial"; mkdir -p "$partial"
  local tool
  for tool in $(cd "$source" && go list tool 2>/dev/null); do
    (cd "$source" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-mod=readonly \
      go build -buildvcs=false -trimpath -tags "$tags" -ldflags "-s -w $(module_flags "$module")" -o "$partial/" "$tool")
  done
  [ -e "$partial/server" ] && mv "$partial/server" "$partial/etcd"
  [ -e "$partial/daemon" ] && mv "$partial/daemon" "$partial/cilium-agent"
  rm -rf "$folder"; mv "$partial" "$folder"
}

# build_binaries [MODULE...]: builds what the cache lacks and links everything into $TESTBED_BIN.
build_binaries() {
  [ $# -gt 0 ] || set -- "${MODULES[@]}"
  mkdir -p "$TESTBED_CACHE" "$TESTBED_BIN"
  exec 9>"$TESTBED_CACHE/lock"; flock 9
  local number=0 module start
  for module in "$@"; do
    number=$((number + 1))
    if [ ! -d "$(module_folder "$module")" ]; then
      command -v go >/dev/null || { echo "testbed: go is missing: install Go 1.26 or newer and try again" >&2; return 1; }
      echo "testbed: building $module ($number of $#) ..."
      start=$SECONDS
      build_module "$module"
      echo "testbed: building $module: done after $((SECONDS - start)) s"
    fi
    ln -sf "$(module_folder "$module")"/* "$TESTBED_BIN/"
  done
  exec 9>&-
}
