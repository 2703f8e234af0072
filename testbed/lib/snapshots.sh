# Volumes with snapshots, where a site is asked for them: a small CSI driver behind the real sidecars and the real snapshot controller.

SNAPSHOT_DRIVER=snapshots.testbed.local

snapshot_definitions() {
  local client; client=$(cd "$TESTBED_HOME/modules/csi" && go list -m -f '{{.Dir}}' github.com/kubernetes-csi/external-snapshotter/client/v8)
  echo "$client/config/crd"
}

driver_is_registered() { kubectl_in "$1" get csinode "$1" -o jsonpath='{.spec.drivers[*].name}' | grep -q "$SNAPSHOT_DRIVER"; }

start_snapshots() {
  local site=$1 folder socket; folder=$(site_folder "$site"); socket=$folder/kubelet/plugins/$SNAPSHOT_DRIVER/csi.sock
  launch_in_node "$site" csi-driver "$TESTBED_BIN/csi-driver" -root "$folder/csi" -kubelet "$folder/kubelet" -node "$site"
  wait_for_process 30 "$site" csi-driver test -S "$socket"
  launch "$site" csi-provisioner "$TESTBED_BIN/csi-provisioner" --kubeconfig "$folder/admin.kubeconfig" --csi-address "$socket" \
    --volume-name-prefix "$site"
  launch "$site" csi-snapshotter "$TESTBED_BIN/csi-snapshotter" --kubeconfig "$folder/admin.kubeconfig" --csi-address "$socket"
  launch "$site" snapshot-controller "$TESTBED_BIN/snapshot-controller" --kubeconfig "$folder/admin.kubeconfig"
  wait_for 60 "$site: the driver is known to the kubelet" driver_is_registered "$site"
}

# provide_snapshots SITE...: what has them already is kept.
provide_snapshots() {
  local site definition
  build_binaries csi
  for site in "$@"; do
    [ ! -e "$(site_folder "$site")/csi" ] || continue
    mkdir -p "$(site_folder "$site")/csi"
    for definition in "$(snapshot_definitions)"/*snapshot.storage.k8s.io_*.yaml; do kubectl_in "$site" apply --server-side -f "$definition" >/dev/null; done
    wait_for 30 "$site: definitions of snapshots" kubectl_in "$site" get volumesnapshotclasses,volumegroupsnapshotclasses
    kubectl_in "$site" apply -f "$TESTBED_HOME/manifests/snapshots.yaml" >/dev/null
    timed "$site: volumes with snapshots" start_snapshots "$site"
  done
}
