# Cluster DNS and dynamic local volumes.

install_addons() {
  local site=$1
  sed -e "s|CLUSTER_DNS|$(service_network "$site").0.10|" "$TESTBED_HOME/manifests/coredns.yaml" | kubectl_in "$site" apply -f - >/dev/null
  sed -e "s|VOLUMES_FOLDER|$(site_folder "$site")/volumes|" "$TESTBED_HOME/manifests/local-path.yaml" | kubectl_in "$site" apply -f - >/dev/null
}

start_provisioner() {
  local site=$1 folder; folder=$(site_folder "$site")
  kubectl_in "$site" -n local-path-storage get configmap local-path-config -o jsonpath='{.data.config\.json}' >"$folder/local-path.json"
  kubectl_in "$site" -n local-path-storage get configmap local-path-config -o jsonpath='{.data.helperPod\.yaml}' >"$folder/local-path-helper.yaml"
  launch "$site" local-path "$TESTBED_BIN/local-path-provisioner" start --kubeconfig "$folder/admin.kubeconfig" \
    --config "$folder/local-path.json" --helper-pod-file "$folder/local-path-helper.yaml" --helper-image localhost/busybox:dev \
    --namespace local-path-storage --configmap-name local-path-config --service-account-name local-path-provisioner-service-account \
    --provisioner-name rancher.io/local-path
}
