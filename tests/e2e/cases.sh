# The cases of the end-to-end tests, in the order in which a register lives through them.

# A Pod that has ended is left to its Job as history; it runs nothing.
mover_only() { local site=$1; equal "$(in_site "$site" -n "$NAMESPACE" get pods -l '!dataembassy.io/mover' --field-selector status.phase!=Succeeded,status.phase!=Failed -o name)" ""; }
pod() { printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s","labels":{"app":"%s"}},"spec":{"automountServiceAccountToken":false,"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"localhost/busybox:dev","imagePullPolicy":"Never","args":["sleep","infinity"]}]}}' "$1" "$1"; }

case_enable() {
  start_register; add_rows tallinn 500
  check "the DataEmbassy is taken" in_site tallinn apply -f "$HERE/embassy.yaml"
  check "luxembourg holds a complete, checked copy" until_true 120 Promotable has_condition luxembourg Promotable True
  check "tallinn is protected" until_true 60 Protected has_condition tallinn Protected True
  check "tallinn is ready" until_true 30 Ready has_condition tallinn Ready True
  check "the rows in tallinn are untouched" equal "$(rows tallinn)" "500 rows, sum of ids 125250"
  check "nothing of the register runs in luxembourg" mover_only luxembourg
  check "a guarded register gets leave to start" guard_register
  check "one connection a way: luxembourg has no route of its own to tallinn's API in any Site" \
    equal "$(in_site luxembourg get site tallinn -o jsonpath='{.spec.vault}')" ""
}

client_secret() { in_site tallinn -n "$OPERATOR" get secret vault-luxembourg -o "jsonpath={.data.$1}"; }
client_serial() { client_secret 'tls\.crt' | base64 -d | openssl x509 -noout -serial; }
lives_long() { client_secret 'tls\.crt' | base64 -d | openssl x509 -noout -checkend $((80 * 86400)); }
has_serial() { [ "$(client_serial)" = "$1" ]; }
keep_invitation() {
  in_site tallinn -n "$OPERATOR" get secret vault-luxembourg -o json |
    jq 'del(.metadata.uid, .metadata.resourceVersion, .metadata.creationTimestamp, .metadata.managedFields)' >"$WORK/invitation.json"
}
# Whom the vault takes a client for that holds what the Secret holds.
vault_knows() {
  local field
  for field in tls.crt tls.key mover.crt mover.key ca.crt; do client_secret "${field/./\\.}" | base64 -d >"$WORK/$field"; done
  curl -s --max-time 5 --cacert "$WORK/ca.crt" --cert "$WORK/$1.crt" --key "$WORK/$1.key" "https://$("$TESTBED" address luxembourg):30443/whoami"
}
holds_no_old_key() {
  local field old; in_site tallinn -n "$OPERATOR" get secrets -o json >"$WORK/secrets.json"
  for field in tls.key mover.key; do
    old=$(jq -r --arg f "$field" '.data[$f]' "$WORK/invitation.json"); [ -n "$old" ] || return 1
    ! grep -qF "$old" "$WORK/secrets.json" || { echo "$field of the invitation is still in a Secret"; return 1; }
  done
}

case_certificates() {
  local renewed
  check "the certificates of the invitation renew themselves" until_true 90 "certificates for 90 days" lives_long
  check "the carried private keys are in no Secret of tallinn any more" holds_no_old_key
  check "the vault takes the new ones for tallinn's operator" equal "$(vault_knows tls | jq -r '.site + " " + .role')" "tallinn operator"
  check "and for tallinn's mover" equal "$(vault_knows mover | jq -r '.site + " " + .role')" "tallinn mover"
  renewed=$(client_serial)
  check "the old invitation is applied again" sh -c "'$TESTBED' kubectl tallinn apply -f '$WORK/invitation.json' 2>/dev/null | grep -q configured"
  check "it takes nothing away" until_true 60 "the renewed certificate" has_serial "$renewed"
  check "and leaves no old key" holds_no_old_key
}

# The oldest that the newest copy ever was, sampled at luxembourg while rows are written.
oldest_copy() {
  local seconds=$1 end=$((SECONDS + $1)) worst=0 age cut
  while [ $SECONDS -lt $end ]; do
    sql tallinn "insert into parcels (owner, written_in) values ('sampled', 'tallinn')" >/dev/null || return 1
    cut=$(newest_cut luxembourg); age=$(($(date +%s) - $(date -d "$cut" +%s)))
    [ "$age" -le "$worst" ] || worst=$age
    sleep 1
  done
  echo "$worst"
}

case_recovery_points() {
  local first last worst; first=$(newest_point luxembourg)
  worst=$(oldest_copy 75); last=$(newest_point luxembourg)
  say "        newest copy under writes: from $first to $last, at most $worst s old (RPO 30 s)"
  check "copies keep the RPO of 30 s under writes" test "${worst:-999}" -le 30
  check "several copies were made" test "${last##*/}" -ge $((${first##*/} + 3))
  check "the newest recovery point is an object at both sites" same_newest
}

vault_store() { in_site luxembourg get pv -o json | jq -r '.items[] | select(.spec.claimRef.name == "data-embassy-vault") | .spec.hostPath.path // .spec.local.path'; }

replication() { in_site tallinn -n "$NAMESPACE" patch dataembassy "$NAME" --type merge -p "{\"spec\":{\"replication\":$1}}" >/dev/null; }
damage() { field "$1" "dataembassy/$NAME" '{.status.verification.damage}'; }
names_damage() { damage "$1" | grep -q "$2"; }
damaged_points() { [ -n "$(field "$1" recoverypoint '{.items[*].status.damage}')" ]; }
read_back() { field "$1" recoverypoint '{.items[*].status.verifiedBy}' | grep -q Deep; }

# The vault is read back on schedule; a file that its disk damaged is named at both sites, and its mending is noticed.
case_verification() {
  local store file
  replication '{"rpo": "7d", "verification": {"schedule": "* * * * *", "depth": "Deep"}}'
  check "the embassy reads the whole vault back" until_true 150 ReadBack has_reason luxembourg Verified ReadBack
  check "home hears of it" until_true 60 ReadBack has_reason tallinn Verified ReadBack
  check "the recovery points say how they were verified" until_true 20 Deep read_back luxembourg
  store=$(vault_store)
  file=$(find "$store" -path '*/inventories/*' -type f -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
  cp "$file" "$WORK/kept"
  printf X | dd of="$file" bs=1 seek=40 conv=notrunc status=none
  check "a damaged file is found" until_true 150 Damaged has_reason luxembourg Verified Damaged
  check "and named" names_damage luxembourg "$(basename "$file")"
  check "so is the point that it costs" until_true 20 "a damaged point" damaged_points luxembourg
  check "with the newest copy damaged the embassy is not promotable" until_true 20 CopyDamaged has_reason luxembourg Promotable CopyDamaged
  check "home is told" until_true 60 Damaged has_reason tallinn Verified Damaged
  check "an event tells it" sh -c "'$TESTBED' kubectl luxembourg -n $NAMESPACE get events.events.k8s.io -o jsonpath='{.items[*].reason}' | grep -q Damaged"
  cat "$WORK/kept" >"$file"
  check "its mending is noticed" until_true 150 ReadBack has_reason luxembourg Verified ReadBack
  check "the embassy is promotable again" until_true 20 Promotable has_condition luxembourg Promotable True
  replication '{"rpo": "30s", "verification": null}'
}

# hook PRE [FIELDS]: the register is frozen by that script and thawed by one that only leaves its mark.
hook() {
  replication "{\"hooks\": [{\"name\": \"marks\", \"selector\": {\"app\": \"register\"}, \"container\": \"postgres\",
    \"pre\": {\"command\": [\"sh\", \"-c\", \"$1\"]${2:+, $2}}, \"post\": {\"command\": [\"sh\", \"-c\", \"echo thaw >>/tmp/marks\"]}}]}"
}
marks() { in_site tallinn -n "$NAMESPACE" exec register-0 -c postgres -- cat /tmp/marks | paste -sd ' '; }
thaws() { marks | tr ' ' '\n' | grep -c thaw; }
more_thaws_than() { [ "$(thaws)" -gt "$1" ]; }
frozen() { [ -n "$(field tallinn "failoverrecord/$NAME" '{.spec.freeze.since}')" ]; }
not_frozen() { ! frozen; }
newest_is() { in_site tallinn -n "$NAMESPACE" get recoverypoints -o json | jq -re '[.items[].spec] | max_by(.sequence) | .consistency' | grep -qx "$1"; }
quiesced_after() { newer_than "$1" && newest_is Quiesced; }
all_thawed() { ! marks | grep -Eq 'freeze freeze|freeze *$'; }
no_exec_left() { equal "$(in_site tallinn -n "$NAMESPACE" get rolebinding "$NAME-hooks" --ignore-not-found -o name)" ""; }
# Writers hold still for a copy, and never longer.
case_hooks() {
  local last before
  hook "psql -h /tmp -tAc checkpoint postgres && echo freeze >>/tmp/marks"
  check "a copy with hooks is quiesced, and says so" until_true 90 "a Quiesced point" newest_is Quiesced
  hook "echo freeze >>/tmp/marks; sleep 600" '"timeout": "5s"'
  check "a hook that hangs is given up" until_true 60 HookFailed has_reason tallinn Replicating HookFailed
  check "it is said how" sh -c "'$TESTBED' kubectl tallinn -n $NAMESPACE get events.events.k8s.io -o json | jq -r '.items[].note' | grep 'register-0' | grep -q 'did not end within 5 s'"
  check "what was begun is let go on" until_true 30 "nothing frozen" not_frozen
  last=$(newest_point tallinn)
  hook "echo freeze >>/tmp/marks; false" '"onError": "Continue"'
  check "a hook that may fail does not stop the copy" until_true 90 "a newer point" newer_than "$last"
  check "which is not called more than it is" until_true 20 Fuzzy newest_is Fuzzy
  hook "echo freeze >>/tmp/marks; sleep 25" '"timeout": "60s"'
  until_true 120 "nothing frozen" not_frozen
  before=$(thaws)
  check "the register is frozen" until_true 60 "a freeze on record" frozen
  until_true 20 "the mark" sh -c "'$TESTBED' kubectl tallinn -n $NAMESPACE exec register-0 -c postgres -- tail -n 1 /tmp/marks | grep -q freeze"
  in_site tallinn -n "$OPERATOR" delete pods --all --grace-period=0 --force >/dev/null 2>&1
  check "after a killed operator it is let go on" until_true 60 "a thaw" more_thaws_than "$before"
  replication '{"hooks": null}'
  check "nothing stays frozen" until_true 60 "nothing frozen" not_frozen
  check "every freeze was followed by a thaw" all_thawed
  check "without hooks the operator can run nothing there" until_true 60 "no binding" no_exec_left
  last=$(newest_point tallinn)
  in_site tallinn -n "$NAMESPACE" annotate pod register-0 pre.hook.backup.velero.io/command='["psql","-h","/tmp","-tAc","checkpoint","postgres"]' >/dev/null
  check "Velero's annotations are honoured" until_true 90 "a Quiesced point" quiesced_after "$last"
  last=$(newest_point tallinn)
  in_site tallinn -n "$NAMESPACE" annotate pod register-0 pre.hook.backup.velero.io/command- >/dev/null
  check "copies go on" until_true 90 "a newer point" newer_than "$last"
}

carried() { embassy "$1" "$2" "$NAME" -n "$NAMESPACE" "${@:3}"; }
nothing_sent() { carried luxembourg import --from "$1" | grep -q '; 0 bytes were sent now'; }
site_key() { printf '%s=%s' "$1" "$(in_site luxembourg get site "$1" -o jsonpath='{.status.publicKey}')"; }
# verified_after SITE TIME: a verification ended after that moment, and found nothing.
verified_after() {
  local at; at=$(field "$1" "dataembassy/$NAME" '{.status.verification.time}')
  [ -n "$at" ] && [ "$(date -d "$at" +%s)" -gt "$2" ] && has_reason "$1" Verified ReadBack
}
# A disk that is carried by hand, both kinds: recovery points out of the vault and back, and a first copy straight from the volumes.
case_seeding() {
  local written
  check "the newest recovery points are exported from the vault" carried luxembourg export --to "$WORK/disk"
  check "the disk is good, without a cluster" env -u KUBECONFIG "$BINARIES/kubectl-embassy" check --from "$WORK/disk" \
    --key "$(site_key tallinn)" --key "$(site_key luxembourg)"
  check "of what the vault has nothing is sent to it" nothing_sent "$WORK/disk"
  check "a first copy is taken from the volumes at home" carried tallinn export --from-volumes --to "$WORK/first"
  check "its Pod is gone" equal "$(in_site tallinn -n "$NAMESPACE" get pod "$NAME-first-copy" --ignore-not-found -o name)" ""
  check "it is imported abroad" carried luxembourg import --from "$WORK/first"
  written=$(date +%s)
  check "copies go on, on top of it" until_true 90 "a copy" copied_after luxembourg "$written"
  replication '{"rpo": "30s", "verification": {"schedule": "* * * * *", "depth": "Deep"}}'
  check "the vault is sound with it" until_true 150 ReadBack verified_after luxembourg "$written"
  replication '{"rpo": "30s", "verification": null}'
}

drill_status() { field luxembourg "drill/$1" "{.status.$2}"; }
drill_is() { [ "$(drill_status "$1" phase)" = "$2" ]; }
drill_at_schedule() { in_site luxembourg -n "$NAMESPACE" get drills -l dataembassy.io/embassy -o jsonpath='{.items[0].metadata.name}' 2>/dev/null; }
drill_namespaces() { in_site luxembourg get namespaces -l dataembassy.io/drill -o name; }
no_drill_namespace() { [ -z "$(drill_namespaces)" ]; }
# order_drill NAME COMMAND [POINT]: a drill with one check.
order_drill() {
  jq -n --arg name "$1" --arg command "$2" --arg point "${3:-}" --arg embassy "$NAME" --arg namespace "$NAMESPACE" '{apiVersion: "dataembassy.io/v1alpha1",
    kind: "Drill", metadata: {name: $name, namespace: $namespace}, spec: ({embassy: $embassy, checks: [{name: "rows", exec: {
    selector: {app: "register"}, container: "postgres", command: ["sh", "-c", $command]}}]} + if $point == "" then {} else {recoveryPoint: $point} end)}' |
    in_site luxembourg create -f - >/dev/null
}

freed() { find "$(vault_store)/embassies" -path '*/freed/*.json' -exec jq -r '.packs[]' {} + 2>/dev/null; }
oldest_object() { field luxembourg recoverypoint '{range .items[*]}{.spec.epoch}/{.spec.sequence}{"\n"}{end}' | sort -t/ -k1,1n -k3,3n | head -n 1; }

# Under writes, what no point that is kept needs goes; each one that is kept runs.
case_thinning() {
  local oldest
  check "the vault was told which points it may give up" until_true 60 Ordered has_reason tallinn Thinned Ordered
  check "it frees the bytes of points that were given up" until_true 180 "freed packs" sh -c "[ -n \"\$(find '$(vault_store)/embassies' -path '*/freed/*.json')\" ]"
  until_true 60 "a copy after that" copied_after luxembourg "$(date +%s)"
  oldest=$(oldest_object)
  order_drill oldest "psql -h /tmp -tAc 'select count(*) from parcels' postgres" "$oldest"
  check "the oldest point that is kept runs, $oldest" until_true 120 Passed drill_is oldest Passed
  say "        $(freed | wc -l) packs freed"
}

# A rehearsal beside the running register: restored, started, checked, shut off from everything, and nothing of it left.
case_drill() {
  local scheduled space register server before during after written
  add_rows tallinn 25; written=$(date +%s)
  until_true 90 "the rows are copied" copied_after luxembourg "$written"
  before=$(oldest_copy 15)
  in_site luxembourg create namespace outside >/dev/null
  pod stranger | in_site luxembourg -n outside apply -f - >/dev/null
  pod server | sed 's/"sleep","infinity"/"httpd","-f","-p","8080"/' | in_site luxembourg -n outside apply -f - >/dev/null
  in_site tallinn -n "$NAMESPACE" patch dataembassy "$NAME" --type merge -p "{\"spec\":{\"drills\":{\"schedule\":\"$(date -u -d '+75 seconds' '+%-M %-H') * * *\",
    \"requiredWithin\":\"1d\",\"checks\":[{\"name\":\"rows\",\"exec\":{\"selector\":{\"app\":\"register\"},\"container\":\"postgres\",
    \"command\":[\"sh\",\"-c\",\"sleep 15; psql -h /tmp -tAc 'select count(*) from parcels' postgres\"]}}]}}}" >/dev/null
  check "an embassy that must be rehearsed and is not is not promotable" until_true 60 NotRehearsed has_reason luxembourg Promotable NotRehearsed
  check "the drill begins by schedule" until_true 120 "a drill" sh -c "[ -n \"\$('$TESTBED' kubectl luxembourg -n $NAMESPACE get drills -o name)\" ]"
  scheduled=$(drill_at_schedule)
  oldest_copy 40 >"$WORK/during" & local sampler=$!
  check "its workload comes up" until_true 120 Checking drill_is "$scheduled" Checking
  space=$(drill_status "$scheduled" namespace)
  register=$(in_site luxembourg -n "$space" get pod register-0 -o jsonpath='{.status.podIP}')
  server=$(in_site luxembourg -n outside get pod server -o jsonpath='{.status.podIP}')
  check "it reaches itself" reaches luxembourg "$space" deployment/portal "$register" 5432
  check "it reaches nobody else" cannot_reach luxembourg "$space" deployment/portal "$server" 8080
  check "nobody else reaches it" cannot_reach luxembourg outside stranger "$register" 5432
  check "no CronJob of it runs by the clock" equal "$(in_site luxembourg -n "$space" get cronjob nightly -o jsonpath='{.spec.suspend}')" true
  check "the drill passes" until_true 120 Passed drill_is "$scheduled" Passed
  wait "$sampler"; during=$(cat "$WORK/during")
  say "        $(drill_status "$scheduled" restoredBytes) bytes of $(drill_status "$scheduled" recoveryPoint), ready in $(drill_status "$scheduled" timeToReady), data $(drill_status "$scheduled" dataAge) old"
  check "its check saw the rows" test "$(drill_status "$scheduled" 'checks[0].message')" -ge 525
  check "nothing of it is left" no_drill_namespace
  check "no volume of it is left" until_true 30 "no volume" sh -c "! '$TESTBED' kubectl luxembourg get pv -o json | jq -e '.items[] | select(.spec.claimRef.namespace == \"$space\")'"
  check "the embassy is promotable again" until_true 30 Promotable has_condition luxembourg Promotable True
  check "and says what was rehearsed" has_reason luxembourg Rehearsed DrillPassed
  after=$(oldest_copy 15)
  say "        oldest copy before, during and after the drill: $before, $during, $after s (RPO 30 s)"
  check "copies keep the RPO meanwhile" test "${during:-999}" -le 30
  check "the register ran on" answers tallinn

  order_drill wrong "echo no such parcel; exit 3"
  check "a drill whose check fails says so" until_true 120 Failed drill_is wrong Failed
  check "in a sentence with what the check said" sh -c "'$TESTBED' kubectl luxembourg -n $NAMESPACE get drill wrong -o jsonpath='{.status.message}' | grep -q 'check rows failed: no such parcel'"
  check "nothing of it is left" no_drill_namespace
  in_site luxembourg -n "$NAMESPACE" apply -f - >/dev/null <<YAML
apiVersion: dataembassy.io/v1alpha1
kind: Drill
metadata: {name: nowhere}
spec: {embassy: $NAME, recoveryPoint: 9/tallinn/1}
---
apiVersion: dataembassy.io/v1alpha1
kind: Drill
metadata: {name: mistyped}
spec: {embassy: $NAME-x}
---
apiVersion: dataembassy.io/v1alpha1
kind: Failover
metadata: {name: mistyped}
spec: {embassy: $NAME-x, mode: Planned, to: luxembourg, epoch: 9}
YAML
  check "a drill of a recovery point that does not exist fails" until_true 120 Failed drill_is nowhere Failed
  check "in a sentence that says what to do" sh -c "'$TESTBED' kubectl luxembourg -n $NAMESPACE get drill nowhere -o jsonpath='{.status.message}' | grep -q 'there is no recovery point 9/tallinn/1: create another Drill'"
  check "a drill of an embassy that does not exist fails" until_true 30 Failed drill_is mistyped Failed
  check "an order for one is rejected" until_true 30 Rejected sh -c "'$TESTBED' kubectl luxembourg -n $NAMESPACE get failover mistyped -o jsonpath='{.status.message}' | grep -q 'spec.embassy names $NAME-x'"
  check "and nobody moved" has_role luxembourg Standby
  in_site luxembourg -n "$NAMESPACE" delete drill/nowhere drill/mistyped failover/mistyped >/dev/null
  order_drill abandoned "sleep 600"
  until_true 120 Checking drill_is abandoned Checking
  in_site luxembourg -n "$NAMESPACE" delete drill abandoned >/dev/null
  check "what is left of a deleted drill is removed" until_true 90 "no namespace of a drill" no_drill_namespace
  check "old reports make room" old_reports_go
  in_site tallinn -n "$NAMESPACE" patch dataembassy "$NAME" --type merge -p '{"spec":{"drills":null}}' >/dev/null
  in_site luxembourg delete namespace outside --wait=false >/dev/null
}

scheduled_drills() { in_site luxembourg -n "$NAMESPACE" get drills -l dataembassy.io/embassy -o name | wc -l; }
# end_report NUMBER: as if that drill had ended so many hours ago. The operator may be writing that it waits, so it is looked at again.
end_report() {
  local ended; ended=$(date -u -d "-$1 hours" +%FT%TZ)
  in_site luxembourg -n "$NAMESPACE" patch drill "report-$1" --subresource=status --type merge -p "{\"status\":{\"phase\":\"Failed\",\"endedAt\":\"$ended\"}}"
  sleep 1; ! in_site luxembourg -n "$NAMESPACE" get drill "report-$1" >/dev/null 2>&1 || drill_is "report-$1" Failed
}
# With twelve more that ended, the operator keeps ten.
old_reports_go() {
  local number
  for number in $(seq 12); do
    order_drill "report-$number" true 9/nowhere/1
    in_site luxembourg -n "$NAMESPACE" label drill "report-$number" "dataembassy.io/embassy=$NAME" >/dev/null
    until_true 20 "report-$number has ended" end_report "$number"
  done
  until_true 60 "at most eleven reports" sh -c "[ \$('$TESTBED' kubectl luxembourg -n $NAMESPACE get drills -l dataembassy.io/embassy -o name | wc -l) -le 11 ]"
}

newer_than() { local now; now=$(newest_point luxembourg); [ "${now##*/}" -gt "${1##*/}" ]; }
a_mover_runs() { [ -n "$(in_site tallinn -n "$NAMESPACE" get pods -l dataembassy.io/mover --field-selector status.phase=Running -o name)" ]; }
quota() { in_site luxembourg patch site tallinn --type merge -p "{\"spec\":{\"hosting\":{\"quota\":\"$1\"}}}" >/dev/null; }

# What fails makes no recovery point, says why, and the next one succeeds.
case_failures() {
  local last; last=$(newest_point luxembourg)
  until_true 40 "a mover runs" a_mover_runs
  in_site tallinn -n "$NAMESPACE" delete pods -l dataembassy.io/mover --grace-period=0 --force >/dev/null 2>&1
  check "after a killed mover the next copy succeeds" until_true 60 "a newer point" newer_than "$last"
  last=$(newest_point luxembourg)
  until_true 40 "a mover runs" a_mover_runs
  in_site tallinn -n "$OPERATOR" delete pods --all --grace-period=0 --force >/dev/null 2>&1
  check "after a killed operator the copy is finished or made anew" until_true 60 "a newer point" newer_than "$last"
  in_site luxembourg -n "$OPERATOR" scale deployment/data-embassy-vault --replicas=0 >/dev/null
  check "a vault that is gone is said" until_true 60 "VaultUnreachable" has_reason tallinn PeerReachable VaultUnreachable
  check "the register runs on without it" answers tallinn
  last=$(newest_point luxembourg)
  in_site luxembourg -n "$OPERATOR" scale deployment/data-embassy-vault --replicas=1 >/dev/null
  check "when the vault is back the next copy succeeds" until_true 90 "a newer point" newer_than "$last"
  quota 1Ki
  sql tallinn "create table ballast as select md5(random()::text) from generate_series(1, 100000)" >/dev/null
  check "a quota that is used up is said" until_true 90 "QuotaExceeded" has_reason tallinn Replicating QuotaExceeded
  quota 20Gi; last=$(newest_point luxembourg)
  check "with more quota the next copy succeeds" until_true 120 "a newer point" newer_than "$last"
  sql tallinn "drop table ballast" >/dev/null
}

# The record speaks of the claim that is there now, and calls it whole.
claim_is_whole() {
  local uid; uid=$(field luxembourg pvc/data-register-0 '{.metadata.uid}')
  [ -n "$uid" ] && [ "$uid" != "$1" ] &&
    [ "$(field luxembourg "failoverrecord/$NAME" '{.spec.volumes.claims.data-register-0}/{.spec.volumes.condition}')" = "$uid/Clean" ]
}
claim_told() { in_site luxembourg -n "$NAMESPACE" get events -o jsonpath='{.items[*].reason}' | grep -q ClaimReplaced; }

case_deleted_claim() {
  local deleted; deleted=$(field luxembourg pvc/data-register-0 '{.metadata.uid}')
  in_site luxembourg -n "$NAMESPACE" delete pvc data-register-0 --timeout=60s >/dev/null
  check "a claim that is deleted under the copy is told" until_true 60 "ClaimReplaced" claim_told
  check "the copy is made again in the new one" until_true 120 "a whole claim" claim_is_whole "$deleted"
}

# Says 'open' or 'closed'; a probe that cannot run says neither.
probe() { in_site "$1" -n "$2" exec "$3" -- sh -c "if busybox nc -w 2 $4 $5 -e /bin/busybox 2>/dev/null; then echo open; else echo closed; fi"; }
same_newest() {
  local here there point; point=$(newest_point luxembourg)
  here="recoverypoint/$NAME-${point//\//-}"
  there=$(field tallinn "$here" '{.spec.contentDigest}')
  [ -n "$there" ] && equal "$(field luxembourg "$here" '{.spec.contentDigest}')" "$there"
}

reaches() { [ "$(probe "$@")" = open ]; }
cannot_reach() { [ "$(probe "$@")" = closed ]; }

case_network() {
  in_site tallinn create namespace outside >/dev/null
  pod stranger | in_site tallinn -n outside apply -f - >/dev/null
  pod server | sed 's/"sleep","infinity"/"httpd","-f","-p","8080"/' | in_site tallinn -n outside apply -f - >/dev/null
  pod inside | in_site tallinn -n "$NAMESPACE" apply -f - >/dev/null
  in_site tallinn -n outside wait --for=condition=Ready pod/stranger pod/server --timeout=60s >/dev/null
  in_site tallinn -n "$NAMESPACE" wait --for=condition=Ready pod/inside --timeout=60s >/dev/null
  local register server
  register=$(field tallinn pod/register-0 '{.status.podIP}')
  server=$(in_site tallinn -n outside get pod server -o jsonpath='{.status.podIP}')
  check "the namespace reaches itself" reaches tallinn "$NAMESPACE" inside "$register" 5432
  check "the namespace reaches DNS" in_site tallinn -n "$NAMESPACE" exec inside -- busybox nslookup register.land-register.svc.cluster.local
  check "a stranger reaches a server in its own namespace (the packets can flow)" until_true 20 "an open port" reaches tallinn outside stranger "$server" 8080
  check "a stranger does not reach the register" cannot_reach tallinn outside stranger "$register" 5432
  check "the register's namespace does not reach others" cannot_reach tallinn "$NAMESPACE" inside "$server" 8080
  in_site tallinn -n "$NAMESPACE" patch dataembassy "$NAME" --type merge -p '{"spec":{"network":{"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"outside"}}}],"ports":[{"port":5432}]}]}}}' >/dev/null
  check "the user's own rule opens what it says" until_true 20 "the stranger in" reaches tallinn outside stranger "$register" 5432
  in_site tallinn -n "$NAMESPACE" patch dataembassy "$NAME" --type merge -p '{"spec":{"network":{"ingress":null}}}' >/dev/null
  check "taking the rule away closes it again" until_true 20 "the stranger out" cannot_reach tallinn outside stranger "$register" 5432
  check "the vault answers nobody without a certificate" refused_with "" curl -sk --max-time 3 "https://$("$TESTBED" address luxembourg):30443/whoami"
  in_site tallinn -n "$NAMESPACE" delete pod inside --wait=false >/dev/null
}

case_fence() {
  check "a Pod in the standby namespace is refused with a sentence" refused_with "is fenced" \
    sh -c "printf '%s' '$(pod intruder)' | '$TESTBED' kubectl luxembourg -n $NAMESPACE create -f -"
  check "a guard without leave waits" refused_with "" timeout 3 "$BINARIES/data-embassy" guard --annotations /nowhere
  check "a Pod that pretends to be a mover is refused" refused_with "is fenced" \
    sh -c "printf '%s' '$(pod intruder | sed 's/"labels":{/"labels":{"dataembassy.io\/mover":"land-register",/')' | '$TESTBED' kubectl luxembourg -n $NAMESPACE create -f -"
}

# Who serves, twice a second, by one clock: 'TIME tallinn=yes|no luxembourg=yes|no'.
sample() {
  while :; do
    local line; line="$(date +%s.%N)"
    for site in tallinn luxembourg; do
      if timeout 2 bash -c ". '$HERE/lib.sh'; answers $site" 2>/dev/null; then line="$line $site=yes"; else line="$line $site=no"; fi
    done
    echo "$line" >>"$WORK/served"
    sleep 0.3
  done
}

forced() { embassy luxembourg failover "$NAME" -n "$NAMESPACE" --to luxembourg --forced --by "duty officer" --reason "no power in tallinn" --acknowledge "take over $NAME and lose what was not copied" "$@"; }

case_forced() {
  add_rows tallinn 100; local written; written=$(date +%s)
  check "the last rows are copied abroad" until_true 90 "a later copy" copied_after luxembourg "$written"
  BEFORE=$(rows tallinn)
  check "a forced order while tallinn lives but without acknowledgement is not even written" refused_with "acknowledge" \
    embassy luxembourg failover "$NAME" -n "$NAMESPACE" --to luxembourg --forced --by me --reason none --acknowledge "yes"
  sample & SAMPLER=$!
  "$TESTBED" kill tallinn >/dev/null
  local start; start=$(date +%s.%N)
  check "the forced order completes" timeout 120 bash -c ". '$HERE/lib.sh'; BINARIES='$BINARIES'; $(declare -f forced); forced"
  check "the register answers in luxembourg" until_true 60 "an answer" answers luxembourg
  say "        from the order to the first answer: $(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}') s"
  check "the same rows are read abroad" equal "$(rows luxembourg)" "$BEFORE"
  add_rows luxembourg 50; ABROAD=$(rows luxembourg)
  check "the Secret came with the objects" equal "$(field luxembourg secret/register '{.data.password}')" "$(printf only-for-this-test | base64)"
  check "the Deployment, the ReplicaSet, the DaemonSet, the Job and the CronJob came too" equal \
    "$(in_site luxembourg -n "$NAMESPACE" get deployment/portal replicaset/reader daemonset/cache job/reindex cronjob/nightly -o jsonpath='{range .items[*]}{.metadata.name} {end}')" "portal reader cache reindex nightly "
  check "the same order again has no effect" refused_with "already" forced
}

case_return() {
  "$TESTBED" start tallinn >/dev/null
  check "tallinn fences itself and classifies its bytes" until_true 120 "Standby or Diverged" settled
  check "nothing of the register runs in tallinn" mover_only tallinn
  check "no container of the register runs on tallinn's node" equal "$(register_containers tallinn)" 0
  check "on luxembourg's node one does" test "$(register_containers luxembourg)" -ge 1
  in_site tallinn apply -f "$HERE/register.yaml" >/dev/null
  sleep 5
  check "a GitOps tool that applies the replicas again starts nothing" mover_only tallinn
  check "luxembourg serves on" answers luxembourg
  if has_role tallinn Diverged; then
    check "what only tallinn has is kept as a recovery point" until_true 20 "a Final point" sh -c "'$TESTBED' kubectl luxembourg -n $NAMESPACE get recoverypoint -o jsonpath='{.items[*].spec.consistency}' | grep -q Final"
    local number; number=$(field tallinn "failoverrecord/$NAME" '{.spec.diverged}' | cut -d/ -f1)
    approve tallinn 99; sleep 4
    check "an approval of another epoch discards nothing" has_role tallinn Diverged
    approve tallinn "$number"
  fi
  check "tallinn becomes a standby in step" until_true 120 Promotable has_condition tallinn Promotable True
  check "luxembourg hears of it" until_true 60 PeerReachable has_condition luxembourg PeerReachable True
}

planned() { embassy luxembourg failover "$NAME" -n "$NAMESPACE" --to tallinn --acknowledge "move $NAME to tallinn"; }

case_planned_back() {
  local start; start=$(date +%s.%N)
  check "the planned order completes" timeout 120 bash -c ". '$HERE/lib.sh'; BINARIES='$BINARIES'; $(declare -f planned); planned"
  check "the register answers in tallinn" until_true 60 "an answer" answers tallinn
  say "        from the order to the first answer: $(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}') s"
  check "nothing that was written abroad is lost" equal "$(rows tallinn)" "$ABROAD"
  check "luxembourg becomes a standby again" until_true 120 "Standby" has_role luxembourg Standby
  check "nothing of the register runs in luxembourg" mover_only luxembourg
  kill "$SAMPLER" 2>/dev/null; SAMPLER=""
  say "        $(wc -l <"$WORK/served") samples of who serves; both: $(grep -c 'tallinn=yes luxembourg=yes' "$WORK/served")"
  check "at no sampled instant did both serve" sh -c "! grep 'tallinn=yes luxembourg=yes' '$WORK/served'"
}

state() { local site; for site in tallinn luxembourg; do field "$site" "failoverrecord/$NAME" '{.spec.role} {.spec.epoch} {.spec.revision};'; done; }

case_old_manifests() {
  local before; before=$(state)
  in_site luxembourg -n "$NAMESPACE" get failover -o json | jq '.items[] | {apiVersion, kind, metadata: {name: .metadata.name, namespace: .metadata.namespace}, spec}' >"$WORK/orders.json"
  in_site luxembourg -n "$NAMESPACE" delete failover --all >/dev/null
  for site in tallinn luxembourg; do in_site "$site" apply -f "$WORK/orders.json" >/dev/null; done
  in_site tallinn apply -f "$HERE/embassy.yaml" -f "$HERE/register.yaml" >/dev/null
  sleep 10
  check "re-applying every old order and manifest at both sites changes no role and no epoch" equal "$(state)" "$before"
  check "no old order is under way" equal \
    "$(in_site luxembourg -n "$NAMESPACE" get failover -o json | jq -r '[.items[].status.phase | select(IN("Superseded", "Rejected", "Completed") | not)] | length')" 0
  check "the order that once moved the role is superseded" equal \
    "$(field luxembourg "failover/$NAME-forced-3" '{.status.phase}')" Superseded
}

# Requests of the operator that write, but for its lease, since a moment.
writes_since() {
  jq -r --arg since "$2" 'select(.stage == "ResponseComplete" and .stageTimestamp > $since
    and .user.username == "system:serviceaccount:data-embassy-system:data-embassy-controller"
    and (.verb | IN("create", "update", "patch", "delete")) and .objectRef.resource != "leases")
    | "\(.verb) \(.objectRef.resource)/\(.objectRef.subresource // "") \(.objectRef.name // "")"' "$("$TESTBED" audit "$1")"
}

case_idle() {
  in_site tallinn -n "$NAMESPACE" patch dataembassy "$NAME" --type merge -p '{"spec":{"replication":{"rpo":"7d","retention":{"immutableFor":"1h"}}}}' >/dev/null
  until_true 60 "the new spec abroad" sh -c "[ \$('$TESTBED' kubectl luxembourg -n $NAMESPACE get dataembassy $NAME -o jsonpath='{.spec.replication.rpo}') = 7d ]"
  sleep 20
  local since; since=$(date -u +%Y-%m-%dT%H:%M:%S)
  sleep 40
  for site in tallinn luxembourg; do
    check "idle costs no write in $site" equal "$(writes_since "$site" "$since")" ""
  done
  since=$(date -u +%Y-%m-%dT%H:%M:%S)
  for site in tallinn luxembourg; do in_site "$site" -n "$OPERATOR" rollout restart deployment/data-embassy-controller >/dev/null; done
  for site in tallinn luxembourg; do in_site "$site" -n "$OPERATOR" rollout status deployment/data-embassy-controller --timeout=90s >/dev/null; done
  sleep 30
  for site in tallinn luxembourg; do
    check "a restart of the operator costs no write in $site" equal "$(writes_since "$site" "$since")" ""
  done
}

case_rights() {
  # New names of the vault make new certificates: the right to update Secrets.
  install_operator luxembourg --set vault.service.type=NodePort --set vault.service.nodePort=30443 \
    --set "vault.hosts={$("$TESTBED" address luxembourg),vault.example.lu}" --set vault.immutableFor=30s --set vault.sweepEvery=10s
  check "a new name of the vault is in its certificate" until_true 60 "the new name" \
    sh -c "'$TESTBED' kubectl luxembourg -n $OPERATOR get secret data-embassy-vault-tls -o jsonpath='{.data.tls\\.crt}' | base64 -d | openssl x509 -noout -ext subjectAltName | grep -q vault.example.lu"
  check "only as many recovery points are kept as objects as the retention says" test \
    "$(in_site tallinn -n "$NAMESPACE" get recoverypoint -o name | wc -l)" -le 6
  in_site tallinn get clusterrole/data-embassy-controller -o json >"$WORK/cluster.json"
  in_site tallinn -n "$OPERATOR" get role/data-embassy-controller -o json >"$WORK/own.json"
  in_site tallinn -n default get role/data-embassy-api-server-address -o json >"$WORK/default.json"
  jq -s '{items: .}' "$WORK/cluster.json" "$WORK/own.json" "$WORK/default.json" >"$WORK/roles.json"
  check "every right of the operator was used, and none was missing" \
    python3 "$HERE/rights.py" "$WORK/roles.json" "$("$TESTBED" audit tallinn)" "$("$TESTBED" audit luxembourg)"
}

case_peer_dead() {
  "$TESTBED" kill luxembourg >/dev/null
  check "a DataEmbassy can be deleted while its peer is dead" in_site tallinn -n "$NAMESPACE" delete dataembassy "$NAME" --timeout=20s
  check "the register runs on" equal "$(rows tallinn)" "$ABROAD"
  check "volumes, recovery points and the record stay" sh -c "'$TESTBED' kubectl tallinn -n $NAMESPACE get pvc/data-register-0 failoverrecord/$NAME && [ -n \"\$('$TESTBED' kubectl tallinn -n $NAMESPACE get recoverypoint -o name)\" ]"
}

case_uninstall() {
  check "the chart can be uninstalled" helm_in tallinn uninstall data-embassy --namespace "$OPERATOR" --wait --timeout 60s
  check "the kinds, the sites and the recovery points stay" sh -c "'$TESTBED' kubectl tallinn get site tallinn luxembourg && [ -n \"\$('$TESTBED' kubectl tallinn -n $NAMESPACE get recoverypoint -o name)\" ]"
  check "the volume and its register stay" equal "$(rows tallinn)" "$ABROAD"
  check "the fence stays" in_site tallinn get validatingadmissionpolicy/data-embassy-fence validatingadmissionpolicybinding/data-embassy-fence
}
