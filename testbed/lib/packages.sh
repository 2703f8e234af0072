# Debian packages that the local provider needs.

# command:package, or a path:package
NEEDED=(runc:runc /usr/lib/cni/loopback:containernetworking-plugins iptables:iptables ipset:ipset nft:nftables
  conntrack:conntrack ethtool:ethtool socat:socat buildah:buildah /bin/busybox:busybox-static mmdebstrap:mmdebstrap
  ip:iproute2 nsenter:util-linux openssl:openssl jq:jq curl:curl psql:postgresql-client)

require_packages() {
  local missing=() need
  for need in "${NEEDED[@]}"; do
    command -v "${need%%:*}" >/dev/null || missing+=("${need#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    fail "missing: ${missing[*]}. Install these packages, or run as root on Debian"
  say "installing Debian packages: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

require_root() { [ "$(id -u)" = 0 ] || fail "the local provider makes network namespaces and mounts: run as root"; }
