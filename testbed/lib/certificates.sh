# A certificate authority per site and the certificates and kubeconfigs of its components; they live for years, since a test lets a
# clock jump by one.

certificate() { # NAME COMMON_NAME ORGANISATION [SUBJECT_ALT_NAMES]
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -out "$1.csr" -subj "/O=$3/CN=$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 1200 \
    -extfile <(echo "subjectAltName=${4:-DNS:$1}") 2>/dev/null
}

kubeconfig() { # SITE NAME
  cat >"$(site_folder "$1")/$2.kubeconfig" <<K
apiVersion: v1
kind: Config
clusters: [{name: $1, cluster: {server: "https://$(site_address "$1"):6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $2, user: {client-certificate-data: $(base64 -w0 "$2.crt"), client-key-data: $(base64 -w0 "$2.key")}}]
contexts: [{name: $1, context: {cluster: $1, user: $2}}]
current-context: $1
K
}

make_certificates() {
  local site=$1 address; address=$(site_address "$site")
  mkdir -p "$(site_folder "$site")/pki"; pushd "$(site_folder "$site")/pki" >/dev/null
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -subj "/CN=$site-ca" -days 1200 2>/dev/null
  certificate apiserver kube-apiserver kubernetes "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:$address,IP:$(service_network "$site").0.1"
  certificate apikubelet apiserver system:masters
  certificate admin admin system:masters
  certificate controller-manager system:kube-controller-manager system:kube-controller-manager
  certificate scheduler system:kube-scheduler system:kube-scheduler
  certificate kubelet "system:node:$site" system:nodes "DNS:$site,IP:$address"
  certificate proxy system:kube-proxy system:node-proxier
  openssl genrsa -out sa.key 2048 2>/dev/null
  local name
  for name in admin controller-manager scheduler kubelet proxy; do kubeconfig "$site" "$name"; done
  popd >/dev/null
}
