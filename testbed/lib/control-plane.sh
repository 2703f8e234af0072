# etcd, API server, controller manager, scheduler of one site.

start_control_plane() {
  local site=$1 folder address; folder=$(site_folder "$site"); address=$(site_address "$site")
  cat >"$folder/audit.yaml" <<K
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
K
  launch "$site" etcd "$TESTBED_BIN/etcd" --data-dir "$folder/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380
  local pki=$folder/pki
  launch "$site" apiserver "$TESTBED_BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$address" --bind-address=0.0.0.0 --secure-port=6443 \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --service-account-key-file="$pki/sa.key" --service-account-signing-key-file="$pki/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range="$(service_network "$site").0.0/16" \
    --authorization-mode=Node,RBAC --allow-privileged --enable-admission-plugins=NodeRestriction \
    --kubelet-client-certificate="$pki/apikubelet.crt" --kubelet-client-key="$pki/apikubelet.key" \
    --kubelet-preferred-address-types=InternalIP \
    --audit-log-path="$folder/log/audit.log" --audit-policy-file="$folder/audit.yaml" --audit-log-maxsize=4096
  launch "$site" controller-manager "$TESTBED_BIN/kube-controller-manager" --kubeconfig="$folder/controller-manager.kubeconfig" \
    --service-account-private-key-file="$pki/sa.key" --root-ca-file="$pki/ca.crt" \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" --use-service-account-credentials \
    --cluster-cidr="$(pod_network "$site").0.0/16" --allocate-node-cidrs=true \
    --service-cluster-ip-range="$(service_network "$site").0.0/16" --leader-elect=false
  launch "$site" scheduler "$TESTBED_BIN/kube-scheduler" --kubeconfig="$folder/scheduler.kubeconfig" --leader-elect=false
  wait_for_process 90 "$site" apiserver kubectl_in "$site" get --raw /readyz
}
