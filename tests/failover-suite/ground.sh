# The ground that every scenario stands on: a register of its own with a writer that tells on itself, seen from outside, and judged.

SUITE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$SUITE/../e2e/lib.sh"
. "$HERE/checks.sh"
. "$HERE/traces.sh"
# Outside of both sites; the writers note there what they have on disk.
WITNESSES=$(mktemp -d /var/tmp/data-embassy-witness.XXXX)
chmod 755 "$WITNESSES"
export REPORT_INTERVAL=${REPORT_INTERVAL:-5s}
REGISTERS=${REGISTERS:-0} WITNESS="" OBSERVER="" LOOPS=()

now() { local up rest; read -r up rest </proc/uptime; echo "$up"; }
# by_clock WALL-TIME: that moment on the machine's clock since its boot.
by_clock() { awk -v up="$(now)" -v wall="$(date +%s.%N)" -v then="$(date -d "$1" +%s.%N)" 'BEGIN {printf "%.2f", up - (wall - then)}'; }
# allow overlap FROM TO | allow loss SITE FROM TO: what the scenario causes knowingly.
allow() { echo "$*" >>"$WITNESS/allowed"; }

# REUSE=1 takes the clusters as they are, with the operator in both, and BINARIES as the folder of its programs.
build_ground() {
  if [ "${REUSE:-}" = 1 ]; then REUSE=""; return; fi
  "$TESTBED" down >/dev/null 2>&1
  "$TESTBED" up || return 1
  rm -rf ~/.kube/cache
  [ -n "${ARCHIVE:-}" ] || make_image || return 1
  install_both && link_sites
}

finish_ground() {
  [ -z "${KEEPER:-}" ] || kill "$KEEPER" 2>/dev/null
  end_loops
  end_observer
  [ "${KEEP:-}" = 1 ] || "$TESTBED" down >/dev/null 2>&1
  if [ "${KEEP:-}" = 1 ] || [ $FAILED -gt 0 ]; then echo "what was seen is in $WITNESSES"; else rm -rf "$WITNESSES"; fi
}

# meanwhile COMMAND...: again and again beside the scenario, until end_loops.
meanwhile() { while :; do "$@" >/dev/null 2>&1; sleep "${EACH:-1}"; done & LOOPS+=($!); }
end_loops() { local loop; for loop in "${LOOPS[@]}"; do kill "$loop" 2>/dev/null; wait "$loop" 2>/dev/null; done; LOOPS=(); }

# open_register NAME: both sites healthy, home active, its embassy in step, the writer at work, everything seen.
open_register() {
  REGISTERS=$((REGISTERS + 1)); NAMESPACE=${1//_/-}-$REGISTERS; NAME=$NAMESPACE; WITNESS=$WITNESSES/$NAMESPACE
  mkdir "$WITNESS"; chmod 777 "$WITNESS"
  in_site luxembourg patch site tallinn --type json -p "[{\"op\":\"add\",\"path\":\"/spec/hosting/namespaces/-\",\"value\":\"$NAMESPACE\"}]" >/dev/null || return 1
  in_site tallinn create namespace "$NAMESPACE" >/dev/null || return 1
  apply_register tallinn && in_site tallinn apply -f <(manifest embassy.yaml) >/dev/null || return 1
  observe tallinn luxembourg
  in_step luxembourg tallinn || return 1
  until_true 30 "tallinn writes" wrote_after tallinn 0
}

# observe SITE...: readers of these sites, and followers of their records, until the next call.
observe() { end_observer; python3 "$SUITE/witness.py" "$TESTBED" "$NAMESPACE" "$WITNESS" "$@" & OBSERVER=$!; }
end_observer() { [ -z "$OBSERVER" ] || { kill "$OBSERVER"; wait "$OBSERVER"; } 2>/dev/null; OBSERVER=""; }

apply_register() { sed "s|NAMESPACE|$NAMESPACE|; s|WITNESS|$WITNESS|" "$SUITE/writer.yaml" | in_site "$1" apply -f - >/dev/null; }
in_step() { watch_for 180 "$1" "dataembassy/$NAME" condition=Promotable; until_true 180 "$1 is a standby in step, and $2 knows it" free_standby "$1" "$2"; }
# watch_for SECONDS SITE OBJECT WHAT: waits by a watch, as far as there is an API server; polls take the machine's processors from what they wait for.
watch_for() { in_site "$2" -n "$NAMESPACE" wait "$3" --for="$4" --timeout="$1s" >/dev/null 2>&1 || :; }
wrote_after() { awk -v site="$1" -v time="$2" '$1 == site && $4 > time {found = 1} END {exit !found}' "$WITNESS/acknowledged"; }
last_write() { awk -v site="$1" '$1 == site {last = $5} END {print last + 0}' "$WITNESS/acknowledged"; }
site_folder() { dirname "$("$TESTBED" kubeconfig "$1")"; }
volume() { echo "$(site_folder "$1")"/volumes/pvc-*_"${NAMESPACE}"_data-writer-0; }

# saw SITE ROLE [SINCE]: the record of that site said so at some time; when, is printed.
saw() { awk -v site="$1" -v role="$2" -v since="${3:-0}" '$1 == site && $3 == role && $2 >= since {print $2; found = 1; exit} END {exit !found}' "$WITNESS/roles"; }
# at_role SECONDS SITE ROLE SINCE: waits for that role, closely.
at_role() {
  local end=$((SECONDS + $1)); shift
  until saw "$@" >/dev/null; do [ $SECONDS -lt $end ] || { echo "no $2 in $1" >&2; return 1; }; sleep 0.03; done
}

number_in() { field "$1" "failoverrecord/$NAME" '{.spec.epoch}' | cut -d/ -f1; }
is_cold() { [ "$(field "$1" "failoverrecord/$NAME" '{.spec.coldFence}')" = true ]; }
# order SITE TO NUMBER: writes a planned order there and does not follow it.
order() {
  in_site "$1" create -f - >/dev/null <<YAML
apiVersion: dataembassy.io/v1alpha1
kind: Failover
metadata: {name: "$NAME-$3-$2", namespace: $NAMESPACE}
spec: {embassy: $NAME, to: $2, epoch: $3, mode: Planned}
YAML
}
# within SECONDS COMMAND...: a command of lib.sh with a limit.
within() {
  local limit=$1; shift
  timeout "$limit" bash -c ". '$HERE/lib.sh'; BINARIES='$BINARIES' NAMESPACE='$NAMESPACE' NAME='$NAME'; \"\$@\"" - "$@"
}
# switch FROM TO: a planned switch, to its very end.
switch() { within 120 move "$1" "$2" >/dev/null && in_step "$1" "$2"; }
fence() { in_site "$1" -n "$NAMESPACE" annotate dataembassy "$NAME" "dataembassy.io/fence=$2" --overwrite >/dev/null; }

# origin SITE: when the point was cut that its reign began with. To be asked soon: old points are not kept as objects.
origin() {
  local point cut
  point=$(field "$1" "failoverrecord/$NAME" '{.spec.ancestry[-1:].point}')
  cut=$(field "$1" "recoverypoint/$NAME-${point//\//-}" '{.spec.cutTime}')
  [ -n "$cut" ] || { echo "the cut of point '$point' is not known" >&2; return 1; }
  by_clock "$cut"
}
# What a forced takeover of SITE may lose of OTHER: all after that cut, until TIME.
allow_loss() { local cut; cut=$(origin "$1") && allow loss "$2" "$cut" "$3"; }

# Gives up what only SITE has, once it says that it has something, and waits until it follows OTHER.
rejoin() {
  until_true 180 "$1 knows what it holds" sh -c "'$TESTBED' kubectl $1 -n $NAMESPACE get failoverrecord $NAME -o jsonpath='{.spec.role}' | grep -Eq 'Standby|Diverged'"
  if has_role "$1" Diverged; then approve "$1" "$(field "$1" "failoverrecord/$NAME" '{.spec.diverged}' | cut -d/ -f1)"; fi
}

# judge ACTIVE SITE...: the verdict over everything since the register was opened; these sites must have written.
judge() {
  local active=$1 report; shift
  # First what was acknowledged, then what is on disk: a line noted in between is no loss.
  mkdir -p "$WITNESS/judged"
  cp "$WITNESS"/{acknowledged,served,roles} "$WITNESS/judged/"
  [ ! -e "$WITNESS/allowed" ] || cp "$WITNESS/allowed" "$WITNESS/judged/"
  cp "$(volume "$active")/log" "$WITNESS/judged/volume.$active"
  report=$(python3 "$SUITE/verdict.py" "$WITNESS/judged" "$active" "$@" 2>&1); local code=$?
  # shellcheck disable=SC2001
  [ "${BRIEF:-}" = 1 ] || sed 's/^/            /' <<<"$report"
  if [ $code -eq 0 ]; then PASSED=$((PASSED + 1)); say "ok      the log of one clock: one writer, nothing lost that was not given up"; else
    FAILED=$((FAILED + 1)); say "FAILED  the log of one clock"; grep VIOLATION <<<"$report"; fi
}

# What there is to look at after a failure, before the clusters go.
keep_evidence() {
  local site
  for site in tallinn luxembourg; do
    in_site "$site" -n "$NAMESPACE" get dataembassies,failovers,failoverrecords,recoverypoints,jobs,pods -o yaml >"$WITNESS/$site.yaml" 2>&1
    in_site "$site" -n "$OPERATOR" logs deployment/data-embassy-controller --tail=2000 >"$WITNESS/$site.log" 2>&1
    in_site "$site" -n "$OPERATOR" logs deployment/data-embassy-controller --tail=2000 --previous >"$WITNESS/$site.previous.log" 2>&1
  done
}

# Both sites up and healed, the register gone from both; fails if that cannot be had.
close_register() {
  local site
  end_loops
  end_observer
  for site in tallinn luxembourg; do
    "$TESTBED" heal "$site"
    grep -q "^$site .* up" <<<"$("$TESTBED" status)" || { "$TESTBED" kill "$site"; "$TESTBED" start "$site"; } >/dev/null 2>&1
  done
  in_site tallinn -n "$NAMESPACE" delete dataembassy --all --timeout=20s >/dev/null 2>&1
  in_site luxembourg -n "$NAMESPACE" delete dataembassy --all --timeout=20s >/dev/null 2>&1
  for site in tallinn luxembourg; do in_site "$site" delete namespace "$NAMESPACE" --wait=false --ignore-not-found >/dev/null; done
  for site in tallinn luxembourg; do
    in_site "$site" -n "$OPERATOR" rollout status deployment/data-embassy-controller --timeout=60s >/dev/null || return 1
  done
}

# Processes in that site's Pods that have a protected volume of this register mounted, on the node, whatever any API server says.
# Movers, also those that are just being made, are told by where they mount it.
writers_on_node() {
  local pid files=()
  for pid in $(find "/sys/fs/cgroup/pids/tb-$1" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); do files+=("/proc/$pid/mountinfo"); done
  [ ${#files[@]} -gt 0 ] || return 0
  grep -s "_${NAMESPACE}_" "${files[@]}" | grep -v '/volumes/[a-z0-9-]* ' | cut -d/ -f3 | sort -u |
    while read -r pid; do tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c1-60; done
}
