# A register whose embassy holds ciphertext only, beside the other one.

committed() { [ "$(field luxembourg "dataembassy/$NAME" '{.status.lastRecoveryPoint.sequence}')" -ge "${1:-1}" ] 2>/dev/null; }
committed_after() { local cut; cut=$(newest_cut luxembourg); [ -n "$cut" ] && [ "$(date -d "$cut" +%s)" -gt "$1" ]; }
# keys_abroad KEYS: the Secrets of luxembourg that hold one of these keys, in the operator's namespace or in the register's.
keys_abroad() {
  local name
  for name in "$OPERATOR" "$NAMESPACE"; do
    in_site luxembourg -n "$name" get secrets -o json | jq -r --arg keys "$1" '.items[] | select(.data["repository-key"] as $key | $key != null and ($keys | contains($key))) | .metadata.name'
  done
}
# Those of home's own epochs: what luxembourg writes itself it can read.
home_keys() {
  local own epochs; own=data-embassy-repository-$(printf '%s/%s' "$NAMESPACE" "$NAME" | sha256sum | cut -c1-16)-; epochs=$(in_site tallinn -n "$NAMESPACE" get recoverypoints -o jsonpath='{range .items[*]}{.spec.epoch}{"\n"}{end}' | grep '/tallinn$' | sort -u | tr / -)
  local epoch
  for epoch in $epochs; do in_site tallinn -n "$OPERATOR" get secrets -o json | jq -r --arg name "$own$epoch" '.items[] | select(.metadata.name == $name) | .data["repository-key"]'; done
}
volume_is_empty() {
  local volume path
  volume=$(field luxembourg pvc/data-register-0 '{.spec.volumeName}')
  [ -n "$volume" ] || return 0
  path=$(in_site luxembourg get pv "$volume" -o jsonpath='{.spec.hostPath.path}{.spec.local.path}')
  [ -z "$(ls -A "$path" 2>/dev/null)" ]
}
unsealed() { embassy luxembourg unseal "$NAME" -n "$NAMESPACE" --file "$WORK/keys.age" --identity "$WORK/$1"; }

# Names of its own hide those of the other register.
case_sealed() {
  local NAMESPACE=health-register NAME=health-register written before abroad
  age-keygen -o "$WORK/officer" 2>/dev/null; age-keygen -o "$WORK/stranger" 2>/dev/null
  start_register; add_rows tallinn 200
  check "a sealed DataEmbassy is taken" in_site tallinn apply -f <(manifest embassy.yaml |
    sed 's/^  replication:/  standby: Sealed\n  keys: {custody: Home}\n  replication:\n    verification: {schedule: "* * * * *"}/')
  check "luxembourg holds a recovery point" until_true 120 "a point" committed
  check "it can take over, with the key that it has not" until_true 60 Sealed has_reason luxembourg Promotable Sealed
  check "it restores nothing" volume_is_empty
  check "home has the key" equal "$(home_keys | wc -l)" 1
  check "no Secret of luxembourg holds the key" equal "$(keys_abroad "$(home_keys)")" ""
  check "it reads the whole vault back without a key" until_true 150 ReadBack has_reason luxembourg Verified ReadBack
  check "home is not protected while nobody has a copy of the key" until_true 30 KeyNotExported has_reason tallinn Protected KeyNotExported
  check "the keys are taken out" embassy tallinn keys export "$NAME" -n "$NAMESPACE" \
    --recipient "$(age-keygen -y "$WORK/officer")" --file "$WORK/keys.age"
  check "nobody else opens them" refused_with "does not open" embassy tallinn keys check "$NAME" -n "$NAMESPACE" --file "$WORK/keys.age" --identity "$WORK/stranger"
  check "who holds them proves it" embassy tallinn keys check "$NAME" -n "$NAMESPACE" --file "$WORK/keys.age" --identity "$WORK/officer"
  check "home is protected" until_true 60 Protected has_condition tallinn Protected True
  add_rows tallinn 50; written=$(date +%s)
  check "the last rows are copied abroad" until_true 90 "a later point" committed_after "$written"
  before=$(rows tallinn)
  embassy tallinn fence "$NAME" -n "$NAMESPACE" --acknowledge "fence $NAME in tallinn" >/dev/null 2>&1
  until_true 90 "luxembourg hears of the fence" shows_role luxembourg tallinn Fenced
  unsealed officer >"$WORK/unsealed" 2>&1 & local person=$!
  check "the forced order completes when the key is brought" timeout 180 bash -c ". '$HERE/lib.sh'; NAMESPACE=$NAMESPACE NAME=$NAME BINARIES='$BINARIES'; take_over luxembourg --peer fenced"
  wait "$person"; check "the person's command ends with it" equal "$?" 0
  check "the register answers in luxembourg" until_true 60 "an answer" answers luxembourg
  check "the same rows are read abroad" equal "$(rows luxembourg)" "$before"
  check "the key was kept nowhere" equal "$(keys_abroad "$(home_keys)")" ""
  add_rows luxembourg 20; abroad=$(rows luxembourg)
  embassy tallinn lift "$NAME" -n "$NAMESPACE" --acknowledge "lift the fence of $NAME in tallinn" >/dev/null 2>&1
  until_true 90 "tallinn is classified" settled
  if has_role tallinn Diverged; then approve tallinn "$(field tallinn "failoverrecord/$NAME" '{.spec.diverged}' | cut -d/ -f1)"; fi
  check "home follows, since it has every key" until_true 180 "a free standby" free_standby tallinn luxembourg
  check "the planned order home completes" move luxembourg tallinn
  check "nothing that was written abroad is lost" equal "$(rows tallinn)" "$abroad"
  check "the embassy is sealed again" until_true 120 Sealed has_reason luxembourg Promotable Sealed
  # It stays, and rests: what comes after is about the other register.
  in_site tallinn -n "$NAMESPACE" patch dataembassy "$NAME" --type merge \
    -p '{"spec": {"replication": {"rpo": "7d", "retention": {"immutableFor": "1h"}, "verification": {"schedule": "0 0 1 1 *"}}}}' >/dev/null
  in_site tallinn -n "$NAMESPACE" scale statefulset/register --replicas=0 >/dev/null
}
