# The site's one node: containerd, kubelet, kube-proxy.

CGROUPS=(cpu cpuacct cpuset memory devices freezer blkio pids systemd)

write_node_files() {
  local site=$1 folder; folder=$(site_folder "$site")
  mkdir -p "$folder"/{cni,cnibin,containerd,kubelet,podlogs,volumes,volplugins}
  cat >"$folder/containerd.toml" <<K
version = 3
root = "$folder/containerd"
state = "/run/$(namespace "$site")"
[grpc]
address = "/run/$(namespace "$site").sock"
[ttrpc]
address = "/run/$(namespace "$site").ttrpc"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  # Below the state folder, so that a power cut leaves no dead names in /run/netns.
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["$folder/cnibin", "/usr/lib/cni"]
    conf_dir = "$folder/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "localhost/pause:dev"
K
  cat >"$folder/kubelet.yaml" <<K
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {x509: {clientCAFile: $folder/pki/ca.crt}, webhook: {enabled: true}, anonymous: {enabled: false}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$(namespace "$site")
failCgroupV1: false
failSwapOn: false
clusterDNS: ["$(service_network "$site").0.10"]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/$(namespace "$site").sock
podLogsDir: $folder/podlogs
tlsCertFile: $folder/pki/kubelet.crt
tlsPrivateKeyFile: $folder/pki/kubelet.key
evictionHard: {}
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
volumePluginDir: $folder/volplugins
syncFrequency: 5s
nodeStatusUpdateFrequency: 5s
registerNode: true
imageGCHighThresholdPercent: 100
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
resolvConf: $folder/resolv.conf
K
  echo "nameserver 10.99.0.1" >"$folder/resolv.conf"
  cat >"$folder/proxy.yaml" <<K
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $(pod_network "$site").0.0/16
hostnameOverride: $site
clientConnection: {kubeconfig: $folder/proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
K
}

make_cgroups() {
  local group name; name=$(namespace "$1")
  for group in "${CGROUPS[@]}"; do mkdir -p "/sys/fs/cgroup/$group/$name"; done
  cat /sys/fs/cgroup/cpuset/cpuset.cpus >"/sys/fs/cgroup/cpuset/$name/cpuset.cpus"
  cat /sys/fs/cgroup/cpuset/cpuset.mems >"/sys/fs/cgroup/cpuset/$name/cpuset.mems"
}

start_containerd() {
  local site=$1 folder; folder=$(site_folder "$site")
  make_cgroups "$site"
  open_node "$site"
  PATH=$TESTBED_BIN:$PATH launch_in_node "$site" containerd "$TESTBED_BIN/containerd" -c "$folder/containerd.toml"
  wait_for_process 30 "$site" containerd "$TESTBED_BIN/ctr" -a "/run/$(namespace "$site").sock" version
  local image
  for image in "$TESTBED_CACHE"/images/*.tar; do image_load "$site" "$image"; done
}

start_kubelet() {
  local site=$1 folder; folder=$(site_folder "$site")
  inside "$site" sysctl -qw net.ipv4.ip_forward=1
  launch_in_node "$site" kubelet "$TESTBED_BIN/kubelet" --config="$folder/kubelet.yaml" --kubeconfig="$folder/kubelet.kubeconfig" \
    --root-dir="$folder/kubelet" --hostname-override="$site" --node-ip="$(site_address "$site")" \
    --cert-dir="$folder/pki"
  launch_in_node "$site" proxy "$TESTBED_BIN/kube-proxy" --config="$folder/proxy.yaml"
  wait_for_process 60 "$site" kubelet kubectl_in "$site" get node "$site"
}

node_is_ready() { kubectl_in "$1" get node "$1" --no-headers 2>/dev/null | grep -q ' Ready '; }
# After a power cut the old status still says Ready; the new boot id tells that the new kubelet wrote it.
node_is_this_boot() {
  [ "$(kubectl_in "$1" get node "$1" -o jsonpath='{.status.nodeInfo.bootID}')" = "$(cat "$(site_folder "$1")/boot-id")" ]
}
