# Names, addresses and small tools of every part.

say() { echo "testbed: $*"; }
fail() { echo "testbed: $*" >&2; exit 1; }

# Brings in the provider: the one that was asked for, else the one that is known to work everywhere this runs.
choose_provider() {
  local name=${TESTBED_PROVIDER:-local} known
  known=$(find "$TESTBED_HOME/lib" -name 'provider-*.sh' -printf '%f\n' | sed 's/^provider-//; s/\.sh$//' | sort | paste -sd' ')
  [[ " $known " == *" $name "* ]] || fail "TESTBED_PROVIDER: no provider '$name'; there is: $known"
  . "$TESTBED_HOME/lib/provider-$name.sh"
}

# timed TITLE COMMAND...: says how long it took.
timed() {
  local title=$1 start=$EPOCHREALTIME; shift
  "$@"
  say "$title: $(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN{printf "%.1f", b-a}') s"
}

# wait_for SECONDS WHAT COMMAND...: polls; fails with a sentence.
wait_for() {
  local limit=$1 what=$2 deadline=$((SECONDS + $1)); shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "$what: not within $limit s"
    sleep 0.2
  done
}

# wait_for_process SECONDS SITE NAME COMMAND...: like wait_for, of a process of the site: fails at once when it has ended, and
# with what it logged last.
wait_for_process() {
  local limit=$1 site=$2 name=$3 deadline=$((SECONDS + $1)) folder; folder=$(site_folder "$2"); shift 3
  until "$@" >/dev/null 2>&1; do
    kill -0 "$(cat "$folder/$name.pid")" 2>/dev/null || fail "$site: $name has ended. Its last lines:"$'\n'"$(tail -n 5 "$folder/log/$name.log")"
    [ $SECONDS -lt $deadline ] || fail "$site: $name is not ready within $limit s. Its last lines:"$'\n'"$(tail -n 5 "$folder/log/$name.log")"
    sleep 0.2
  done
}

# A site's number decides its addresses; the first free one is taken at its first start.
site_folder() { echo "$TESTBED_DIR/$1"; }
site_number() {
  local file; file=$(site_folder "$1")/number
  [ -e "$file" ] || fail "no site '$1' here; 'testbed status' lists them, 'testbed up $1' makes it"
  cat "$file"
}
site_address() { echo "10.99.0.1$(site_number "$1")"; }
pod_network() { echo "10.$((100 + $(site_number "$1")))"; }
service_network() { echo "10.$((110 + $(site_number "$1")))"; }
namespace() { echo "tb-$1"; }
uplink() { site_number "$1" >/dev/null; echo "tb-v-${1:0:9}"; }

# Runs in the site's network namespace. `ip netns exec` would remount /sys and hide the cgroups.
inside() { local site=$1; shift; nsenter --net="/run/netns/$(namespace "$site")" "$@"; }

# launch SITE NAME COMMAND...: a process of the site, in the background, with its log.
launch() {
  local site=$1 name=$2; shift 2
  setsid nsenter --net="/run/netns/$(namespace "$site")" "$@" >>"$(site_folder "$site")/log/$name.log" 2>&1 </dev/null &
  echo $! >"$(site_folder "$site")/$name.pid"
}

# open_node SITE: a mount namespace for the node's processes, with a boot id of its own, held by a sleeping process. Their
# mounts end with it, as at a power cut.
open_node() {
  local site=$1 folder; folder=$(site_folder "$site")
  cat /proc/sys/kernel/random/uuid >"$folder/boot-id"
  launch "$site" node unshare -m --propagation slave sh -c \
    'mount --bind "$1" /proc/sys/kernel/random/boot_id && mount --make-rshared / && exec sleep infinity' sh "$folder/boot-id"
  wait_for 5 "$site: node's mount namespace" in_node "$site" cmp -s "$folder/boot-id" /proc/sys/kernel/random/boot_id
}
in_node() { local site=$1; shift; nsenter -t "$(cat "$(site_folder "$site")/node.pid")" -m -n "$@"; }

# launch_in_node SITE NAME COMMAND...: like launch, in the node's mount namespace.
launch_in_node() {
  local site=$1 name=$2; shift 2
  setsid nsenter -t "$(cat "$(site_folder "$site")/node.pid")" -m -n "$@" >>"$(site_folder "$site")/log/$name.log" 2>&1 </dev/null &
  echo $! >"$(site_folder "$site")/$name.pid"
}

# From inside the site, since its address cannot be reached from outside while it is cut off.
kubectl_in() { local site=$1; shift; inside "$site" "$TESTBED_BIN/kubectl" --kubeconfig "$(site_folder "$site")/admin.kubeconfig" "$@"; }
