# A whole site: its network, its start, its end.

BRIDGE=tb-wan

make_bridge() {
  ip link show "$BRIDGE" >/dev/null 2>&1 && return
  ip link add "$BRIDGE" type bridge; ip addr add 10.99.0.1/24 dev "$BRIDGE"; ip link set "$BRIDGE" up
}

make_network() {
  local site=$1 name link; name=$(namespace "$site"); link=$(uplink "$site")
  ip netns add "$name"
  ip link add "$link" type veth peer name eth0 netns "$name"; ip link set "$link" master "$BRIDGE" up
  ip -n "$name" addr add "$(site_address "$site")/24" dev eth0
  ip -n "$name" link set eth0 up; ip -n "$name" link set lo up; ip -n "$name" route add default via 10.99.0.1
}

free_number() {
  local number taken; taken=" $(cat "$TESTBED_DIR"/*/number 2>/dev/null | tr '\n' ' ')"
  for number in 1 2 3 4 5 6 7 8 9; do
    [[ $taken == *" $number "* ]] || { echo $number; return; }
  done
  fail "nine sites are here already; remove one with 'testbed down SITE'"
}

all_sites() { local file; for file in "$TESTBED_DIR"/*/number; do [ -e "$file" ] && basename "$(dirname "$file")"; done; true; }

site_is_up() { [ -e "$(site_folder "$1")/complete" ] && node_is_ready "$1" && node_is_this_boot "$1" && cilium_is_healthy "$1" >/dev/null; }

start_processes() {
  local site=$1
  timed "$site: control plane" start_control_plane "$site"
  timed "$site: container runtime and images" start_containerd "$site"
  timed "$site: kubelet and proxy" start_kubelet "$site"
  timed "$site: Cilium" start_cilium "$site"
  wait_for 60 "$site: node of this boot" node_is_this_boot "$site"
  wait_for 60 "$site: node ready" node_is_ready "$site"
  install_addons "$site"
  start_provisioner "$site"
  if [ -e "$(site_folder "$site")/csi" ]; then start_snapshots "$site"; fi
  wait_for 120 "$site: cluster DNS" kubectl_in "$site" -n kube-system rollout status deployment/coredns --timeout=1s
}

site_up() {
  local site=$1 folder; folder=$(site_folder "$site")
  if site_is_up "$site" 2>/dev/null; then say "$site runs already at $(site_address "$site")"; return; fi
  # Whatever a killed run left of it goes first.
  if [ -e "$folder" ]; then say "$site: removing what an earlier run left"; site_down "$site"; fi
  mkdir -p "$folder/log"; free_number >"$folder/number"
  make_network "$site"
  make_certificates "$site"
  write_node_files "$site"
  start_processes "$site"
  touch "$folder/complete"
  say "$site is up at $(site_address "$site"); kubeconfig: $folder/admin.kubeconfig"
}

sites_up() {
  [ $# -gt 0 ] || set -- tallinn luxembourg
  local site
  for site in "$@"; do [[ $site =~ ^[a-z][a-z0-9-]{0,8}[a-z0-9]?$ ]] || [[ $site == luxembourg ]] || fail "'$site' is no site name: up to ten of a-z, 0-9 and '-'"; done
  require_root; require_packages
  build_binaries etcd kubernetes containerd cilium local-path coredns
  prepare_cilium; build_images; make_bridge
  mkdir -p "$TESTBED_DIR"
  for site in "$@"; do site_up "$site"; done
}

# Every process of the site: those in its network namespace and those of its containers.
site_processes() {
  ip netns pids "$(namespace "$1")" 2>/dev/null || true
  find "/sys/fs/cgroup/pids/$(namespace "$1")" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

end_processes() {
  local site=$1 round pids
  for round in 1 2 3 4 5 6 7 8 9 10; do
    pids=$(site_processes "$site" | sort -u); [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null || true
    sleep 0.2
  done
  fail "$site: processes that do not end: $(echo "$pids" | tr '\n' ' ')"
}

# What a reboot would clear: mounts, container state, the pods' network namespaces, cgroups.
clear_volatile() {
  local site=$1 name mounted group; name=$(namespace "$site")
  for mounted in $(awk -v a="$(site_folder "$site")/" -v b="/run/$name/" -v c="/run/$name-cilium/" \
    'index($2, a) == 1 || index($2, b) == 1 || index($2, c) == 1 {print $2}' /proc/mounts | sort -r); do
    umount -l "$mounted" 2>/dev/null || true
  done
  rm -rf "/run/$name" "/run/$name.sock" "/run/$name.sock.ttrpc" "/run/$name.ttrpc" "/run/$name-cilium"
  for group in "${CGROUPS[@]}"; do
    [ -d "/sys/fs/cgroup/$group/$name" ] && find "/sys/fs/cgroup/$group/$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
}

# Whether a process that makes up the site is left; who only visits its network does not count.
site_runs() {
  local file
  for file in "$(site_folder "$1")"/*.pid; do
    if [ -e "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null; then return 0; fi
  done
  return 1
}

site_kill() { site_number "$1" >/dev/null; end_processes "$1"; rm -f "$(site_folder "$1")"/*.pid; clear_volatile "$1"; say "$1 is dead; its disks are in $(site_folder "$1")"; }

site_start() {
  [ -e "$(site_folder "$1")/complete" ] || fail "$1 was never up: 'testbed up $1'"
  ! site_runs "$1" || fail "$1 runs; 'testbed kill $1' first"
  # The container runtime's network must be set up anew by the new agent.
  rm -f "$(site_folder "$1")/cni/05-cilium.conflist"
  start_processes "$1"
  say "$1 is up again with boot id $(cat "$(site_folder "$1")/boot-id")"
}

site_down() {
  local site=$1
  [ -e "$(site_folder "$site")/number" ] && { end_processes "$site"; ip link del "$(uplink "$site")" 2>/dev/null || true; }
  clear_volatile "$site"
  ip netns del "$(namespace "$site")" 2>/dev/null || true
  rm -rf "$(site_folder "$site")"
}

sites_down() {
  # shellcheck disable=SC2046
  [ $# -gt 0 ] || set -- $(all_sites)
  local site
  for site in "$@"; do site_down "$site"; say "$site is gone"; done
  [ -n "$(all_sites)" ] || ip link del "$BRIDGE" 2>/dev/null || true
}

sites_status() {
  local site
  for site in $(all_sites); do
    local state=down; [ -z "$(site_processes "$site")" ] || state=starting
    site_is_up "$site" 2>/dev/null && state=up
    ip link show "$(uplink "$site")" 2>/dev/null | grep -q 'state DOWN' && state="$state, cut off"
    printf '%-14s %-12s %s\n' "$site" "$(site_address "$site")" "$state"
  done
}
