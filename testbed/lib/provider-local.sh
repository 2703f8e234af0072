# Provider `local`: each site is a network namespace of this machine with a control plane and a node of its own.
# A provider is this one file: it brings in the parts that it needs and defines the functions below, one for each command.

for part in packages images certificates control-plane node cilium addons snapshots site; do
  . "$TESTBED_HOME/lib/$part.sh"
done

provider_up() { sites_up "$@"; }
provider_down() { sites_down "$@"; }
provider_status() { sites_status; }
provider_cut() { ip link set "$(uplink "$1")" down; }
provider_heal() { ip link set "$(uplink "$1")" up; }
provider_kill() { site_kill "$1"; }
provider_start() { site_start "$1"; }
provider_snapshots() { provide_snapshots "$@"; }
provider_load() { image_load "$1" "$2"; }
provider_kubectl() { kubectl_in "$@"; }
provider_kubeconfig() { echo "$(site_folder "$1")/admin.kubeconfig"; }
provider_audit() { echo "$(site_folder "$1")/log/audit.log"; }
provider_address() { site_address "$1"; }
# What runs: the runtime keeps its notes of containers that a power cut ended.
provider_containers() {
  local ctr=("$TESTBED_BIN/ctr" -a "/run/$(namespace "$1").sock" -n k8s.io)
  awk 'NR == FNR {if ($3 == "RUNNING") runs[$1]; next} $1 in runs' <("${ctr[@]}" tasks list) <("${ctr[@]}" containers list)
}
