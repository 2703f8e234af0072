# Cilium enforces the NetworkPolicies: agent and CNI plugin, without its operator, which this needs not.

CILIUM_VERSION=1.20.2

cilium_tools_run() { local tool; for tool in clang ipset; do "$1/wrap/$tool" --version >/dev/null 2>&1 || return 1; done; }

# The agent compiles its BPF programs with clang, kept in a folder of its own beside the machine's compilers.
prepare_cilium() {
  local home=$TESTBED_CACHE/cilium-$CILIUM_VERSION
  if [ -e "$home/ready" ] && cilium_tools_run "$home"; then return; fi
  rm -rf "$home"
  mkdir -p "$home"/{debs,prefix,lib,wrap}
  say "fetching clang for Cilium"
  (cd "$home/debs" && apt-get download -qq -o APT::Sandbox::User=root clang-19 libclang-cpp19 libllvm19 ipset libipset13 &&
    for package in *.deb; do dpkg-deb -x "$package" "$home/prefix"; done)
  local module; module=$(cd "$TESTBED_HOME/modules/cilium" && go list -m -f '{{.Dir}}' github.com/cilium/cilium)
  cp -r --no-preserve=mode "$module/bpf" "$home/lib/bpf"
  mkdir -p "$home/crds"; cp --no-preserve=mode "$module"/pkg/k8s/apis/cilium.io/client/crds/v2*/*.yaml "$home/crds/"
  local tool
  for tool in clang:usr/lib/llvm-19/bin/clang ipset:usr/sbin/ipset; do
    # By the place of the wrapper itself, so that a cache can be moved.
    printf '#!/bin/sh\nprefix=$(dirname "$0")/../prefix\nLD_LIBRARY_PATH=$prefix/usr/lib/x86_64-linux-gnu:$prefix/usr/lib/llvm-19/lib exec "$prefix/%s" "$@"\n' \
      "${tool#*:}" >"$home/wrap/${tool%%:*}"
    chmod +x "$home/wrap/${tool%%:*}"
  done
  rm -rf "$home/debs"
  cilium_tools_run "$home" || fail "Cilium: clang or ipset does not run from $home/wrap"
  touch "$home/ready"
}

cilium_is_healthy() { inside "$1" curl -sf -H 'brief: true' http://127.0.0.1:9879/healthz; }
has_pod_network() { [ -n "$(kubectl_in "$1" get node "$1" -o jsonpath='{.spec.podCIDR}')" ]; }

start_cilium() {
  local site=$1 folder home=$TESTBED_CACHE/cilium-$CILIUM_VERSION state; folder=$(site_folder "$site")
  state=/run/$(namespace "$site")-cilium
  mkdir -p "$state" /var/run/cilium
  in_node "$site" mount -t bpf bpf /sys/fs/bpf
  in_node "$site" mount --bind "$state" /var/run/cilium
  wait_for 30 "$site: pod network" has_pod_network "$site"
  kubectl_in "$site" apply --server-side -f "$home/crds" >/dev/null
  ln -sf "$TESTBED_BIN/cilium-cni" "$folder/cnibin/cilium-cni"
  # The mounts belong to the node, so that policies hold while the agent restarts.
  PATH=$home/wrap:$PATH launch_in_node "$site" cilium \
    env K8S_NODE_NAME="$site" "$TESTBED_BIN/cilium-agent" \
    --k8s-kubeconfig-path="$folder/admin.kubeconfig" --cluster-name="$site" --lib-dir="$home/lib" --state-dir=/var/run/cilium \
    --enable-ipv4=true --enable-ipv6=false --ipam=kubernetes --k8s-require-ipv4-pod-cidr=true --identity-allocation-mode=crd \
    --routing-mode=native --ipv4-native-routing-cidr="$(pod_network "$site").0.0/16" --devices=eth0 \
    --enable-ipv4-masquerade=true --enable-bpf-masquerade=false --kube-proxy-replacement=false --bpf-lb-sock=false \
    --enable-l7-proxy=false --enable-hubble=false --enable-health-checking=false --enable-endpoint-health-checking=false \
    --enable-health-check-nodeport=false --enable-cilium-endpoint-slice=false \
    --bpf-ct-global-tcp-max=16384 --bpf-ct-global-any-max=8192 --preallocate-bpf-maps=false \
    --policy-cidr-match-mode=nodes,pods --identity-max-jitter=1ms --identity-change-grace-period=100ms \
    --cni-exclusive=false --agent-health-port=9879
  wait_for_process 120 "$site" cilium cilium_is_healthy "$site"
  cat >"$folder/cni/05-cilium.conflist" <<K
{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni","enable-debug":false,"log-file":"$folder/log/cni.log"}]}
K
}
