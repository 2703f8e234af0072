# What the demonstration and the end-to-end tests share: two sites, the chart in both, a PostgreSQL register.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
HERE=$REPOSITORY/tests/e2e
TESTBED=$REPOSITORY/testbed/testbed
OPERATOR=data-embassy-system
NAMESPACE=land-register
NAME=land-register
IMAGE=localhost/data-embassy:e2e
PROFILE=${PROFILE:-release}
BEGUN=$(date +%s.%N)

elapsed() { awk -v a="$BEGUN" -v b="$(date +%s.%N)" 'BEGIN {printf "%7.1f s", b - a}'; }
say() { printf '%s  %s\n' "$(elapsed)" "$*"; }
in_site() { local site=$1; shift; "$TESTBED" kubectl "$site" "$@"; }
# From inside the site where it has a network of its own: while it is cut off, its address cannot be reached from outside.
embassy() {
  local site=$1 inside=(); shift
  [ ! -e "/run/netns/tb-$site" ] || inside=(nsenter "--net=/run/netns/tb-$site")
  KUBECONFIG=$("$TESTBED" kubeconfig "$site") "${inside[@]}" "$BINARIES/kubectl-embassy" "$@"
}
helm_in() {
  local site=$1; shift
  # The sites themselves need no helm, so they did not build it.
  "$TESTBED" binaries helm >&2
  KUBECONFIG=$("$TESTBED" kubeconfig "$site") "$("$TESTBED" bin)/helm" "$@"
}

# until_true SECONDS WHAT COMMAND...: waits; says what did not come about.
until_true() {
  local limit=$1 what=$2 end=$((SECONDS + $1)); shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $end ]; then echo "not within $limit s: $what" >&2; return 1; fi
    sleep 0.3
  done
}

# field SITE RESOURCE JSONPATH: one value of the register's namespace.
field() { in_site "$1" -n "$NAMESPACE" get "$2" -o "jsonpath=$3"; }
condition() { field "$1" "dataembassy/$NAME" "{.status.conditions[?(@.type==\"$2\")].status}"; }
has_condition() { [ "$(condition "$1" "$2")" = "$3" ]; }
reason() { field "$1" "dataembassy/$NAME" "{.status.conditions[?(@.type==\"$2\")].reason}"; }
has_reason() { [ "$(reason "$1" "$2")" = "$3" ]; }
role() { field "$1" "failoverrecord/$NAME" '{.spec.role}'; }
has_role() { [ "$(role "$1")" = "$2" ]; }
# shown_role SITE OTHER: what SITE shows as the role of the other one.
shown_role() { field "$1" "dataembassy/$NAME" "{.status.sites[?(@.name==\"$2\")].role}"; }
shows_role() { [ "$(shown_role "$1" "$2")" = "$3" ]; }
sql() { in_site "$1" -n "$NAMESPACE" exec register-0 -c postgres -- psql -h /tmp -v ON_ERROR_STOP=1 -tAc "$2" postgres; }
settled() { role tallinn | grep -Eq 'Standby|Diverged'; }
# free_standby SITE OTHER: the site could take over, and the other one knows it.
free_standby() { has_condition "$1" Promotable True && has_role "$1" Standby && shows_role "$2" "$1" Standby; }
# move FROM TO: a planned switch, followed to its end.
move() { embassy "$1" failover "$NAME" -n "$NAMESPACE" --to "$2" --acknowledge "move $NAME to $2"; }
# take_over SITE [ARGUMENT...]: a forced one.
take_over() {
  local site=$1; shift
  embassy "$site" failover "$NAME" -n "$NAMESPACE" --to "$site" --forced --by "duty officer" --reason "no answer from the other site" \
    --acknowledge "take over $NAME and lose what was not copied" "$@"
}
# manifest FILE: one of these manifests, for the register at hand.
manifest() { sed "s/land-register/$NAMESPACE/g" "$HERE/$1"; }
answers() { [ "$(sql "$1" 'select 1' 2>/dev/null)" = 1 ]; }
# approve SITE NUMBER: gives up the bytes of that epoch. An API server that just started may not know its own policies yet.
approve() {
  until_true 60 "the approval is taken" in_site "$1" -n "$NAMESPACE" patch dataembassy "$NAME" --type merge \
    -p "{\"spec\":{\"failover\":{\"approveDiscard\":{\"number\":$2,\"site\":\"$1\"}}}}"
}
# Containers of the register on the node itself, whatever any API server says.
register_containers() {
  "$TESTBED" containers "$1" 2>/dev/null | grep -c postgres || true
}

make_image() {
  BINARIES=$("$REPOSITORY/scripts/binaries" "$PROFILE")
  local folder; folder=$(mktemp -d)
  cp "$BINARIES/data-embassy" "$REPOSITORY/Dockerfile" "$folder/"
  ARCHIVE=$("$TESTBED" image "$IMAGE" "$folder")
  rm -rf "$folder"
}

install_operator() {
  local site=$1; shift
  "$TESTBED" load "$site" "$ARCHIVE"
  helm_in "$site" upgrade --install data-embassy "$REPOSITORY/charts/data-embassy" \
    --namespace "$OPERATOR" --create-namespace --wait --timeout "${WAIT:-120s}" \
    --set site="$site" --set image.repository=localhost/data-embassy --set image.tag=e2e --set image.pullPolicy=Never \
    --set controller.reportInterval="${REPORT_INTERVAL:-5s}" "$@" >/dev/null
}

# install_embassy SITE [OPTION...]: an operator with a vault that the other sites reach.
install_embassy() {
  local site=$1; shift
  install_operator "$site" --set vault.service.type=NodePort --set vault.service.nodePort=30443 --set "vault.hosts={$("$TESTBED" address "$site")}" \
    --set vault.immutableFor=30s --set vault.sweepEvery=10s "$@"
}

install_both() {
  install_embassy luxembourg
  install_operator tallinn --set vault.enabled=false
}

# link_embassy SITE JURISDICTION: the Sites that it and tallinn must know, and tallinn's way to its vault.
link_embassy() {
  local site=$1
  in_site "$site" apply -f - >/dev/null <<YAML
apiVersion: dataembassy.io/v1alpha1
kind: Site
metadata: {name: $site}
spec: {jurisdiction: $2, legalBasis: "Agreement on the hosting of data and information systems, 2017"}
---
apiVersion: dataembassy.io/v1alpha1
kind: Site
metadata: {name: tallinn}
spec:
  jurisdiction: EE
  hosting: {namespaces: [${HOSTED:-land-register}], quota: 20Gi}
YAML
  until_true 60 "the Site of $site knows itself" \
    sh -c "'$TESTBED' kubectl $site get site $site -o jsonpath='{.status.publicKey}' | grep -q ed25519"
  embassy "$site" invite tallinn --url "https://$("$TESTBED" address "$site"):30443" --valid-for "${VALID_FOR:-90d}" 2>/dev/null | in_site tallinn apply -f - >/dev/null
}

link_sites() {
  in_site tallinn apply -f - >/dev/null <<'YAML'
apiVersion: dataembassy.io/v1alpha1
kind: Site
metadata: {name: tallinn}
spec: {jurisdiction: EE}
YAML
  link_embassy luxembourg LU
}

start_register() {
  in_site tallinn create namespace "$NAMESPACE" --dry-run=client -o yaml | in_site tallinn apply -f - >/dev/null
  in_site tallinn apply -f <(manifest register.yaml) >/dev/null
  until_true 120 "the register answers in tallinn" answers tallinn
  sql tallinn "create table if not exists parcels (id serial primary key, owner text, written_in text)" >/dev/null
}

# Nothing of the register starts any more before a site's operator gives leave, not even after a power cut.
guard_register() {
  in_site tallinn -n "$NAMESPACE" patch statefulset register --type json --patch-file "$HERE/guard.json" >/dev/null
  until_true 60 "the guarded Pod" sh -c "'$TESTBED' kubectl tallinn -n $NAMESPACE get pod register-0 -o jsonpath='{.spec.initContainers[0].name}' | grep -q guard"
  until_true 60 "the guarded register answers" answers tallinn
}

# add_rows SITE COUNT
add_rows() { sql "$1" "insert into parcels (owner, written_in) select 'owner ' || n, '$1' from generate_series(1, $2) n; checkpoint" >/dev/null; }
rows() { sql "$1" "select count(*) || ' rows, sum of ids ' || coalesce(sum(id), 0) from parcels"; }

newest_point() { field "$1" "dataembassy/$NAME" '{.status.lastRecoveryPoint.epoch}/{.status.lastRecoveryPoint.sequence}'; }
newest_cut() { field "$1" "dataembassy/$NAME" '{.status.lastRecoveryPoint.time}'; }
# copied_after SITE TIME: a recovery point was begun after that moment, and luxembourg holds it restored.
copied_after() {
  local cut; cut=$(field "$1" "dataembassy/$NAME" '{.status.lastVerified.time}')
  [ -n "$cut" ] && [ "$(date -d "$cut" +%s)" -gt "$2" ]
}
