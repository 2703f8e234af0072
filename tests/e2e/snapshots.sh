# A register on volumes whose driver takes snapshots, beside the others.

# The driver's folder in tallinn, where a file makes it fail or late.
driver_folder() { echo "${TESTBED_DIR:-/var/tmp/data-embassy-testbed}/tallinn/csi"; }
snapshots() { in_site tallinn -n "$NAMESPACE" get volumesnapshots -o json; }
# One of the two may have been taken just before the driver was told to be late.
snapshots_are_late() { snapshots | jq -e '[.items[].status] | length == 2 and all(.creationTime != null) and any(.readyToUse == false)'; }
waiting_copy() { in_site tallinn -n "$NAMESPACE" get jobs -l dataembassy.io/mover -o json | jq -r '.items[] | select(.spec.suspend == true) | .metadata.name'; }
is_at_least() { [ "$(field tallinn "dataembassy/$NAME" '{.status.lastRecoveryPoint.sequence}')" -ge "$1" ]; }
says() { field tallinn "dataembassy/$NAME" "{.status.conditions[?(@.type==\"$1\")].message}" | grep -q "$2"; }
is_restored() { equal "$(field luxembourg "dataembassy/$NAME" '{.status.lastVerified.sequence}{.status.lastVerified.time}')" "$(field tallinn "dataembassy/$NAME" '{.status.lastRecoveryPoint.sequence}{.status.lastRecoveryPoint.time}')"; }
nothing_is_left() {
  equal "$(in_site tallinn -n "$NAMESPACE" get volumesnapshots,volumegroupsnapshots -o name)$(in_site tallinn get volumesnapshotcontents,volumegroupsnapshotcontents -o name)" "" &&
    equal "$(in_site tallinn -n "$NAMESPACE" get pvc -o name | paste -sd ' ')" "persistentvolumeclaim/data persistentvolumeclaim/log" && equal "$(ls "$(driver_folder)" | grep -c snapshot)" 0
}
# Says what is left.
nothing_stays() { until_true 420 "no snapshots" nothing_is_left || nothing_is_left; }
writes_on() { equal "$(field tallinn "failoverrecord/$NAME" '{.spec.freeze.pods}')" "[]" && ! in_site tallinn -n "$NAMESPACE" exec deployment/cadastre -- sh -c "[ -e /tmp/hold ]"; }
# hold PRE: before each copy that script runs in the writer.
hold() {
  replication "{\"hooks\": [{\"name\": \"hold\", \"selector\": {\"app\": \"cadastre\"}, \"pre\": {\"command\": [\"sh\", \"-c\", \"$1\"]},
    \"post\": {\"command\": [\"sh\", \"-c\", \"rm -f /tmp/hold\"]}}]}"
}
abroad() { in_site luxembourg get pv "$(field luxembourg "pvc/$1" '{.spec.volumeName}')" -o jsonpath='{.spec.hostPath.path}{.spec.local.path}'; }
# Each number is written to a file of one volume, then to one of the other: at any moment both are equal, or the first is one ahead.
ahead() { echo $(($(tail -n 1 "$(abroad log)/first") - $(tail -n 1 "$(abroad data)/second"))); }

# Names of its own hide those of the other registers.
case_snapshots() {
  local NAMESPACE=cadastre NAME=cadastre job folder; folder=$(driver_folder)
  "$TESTBED" snapshots tallinn >/dev/null
  in_site tallinn create namespace "$NAMESPACE" >/dev/null
  in_site tallinn apply -f "$HERE/cadastre.yaml" >/dev/null
  check "a DataEmbassy with snapshots is taken" in_site tallinn apply -f <(manifest embassy.yaml |
    sed 's/copyMethod: Direct/copyMethod: Snapshot/; s/^  residency/  storage: {classes: {snapshots: local-path}}\n  residency/')
  check "luxembourg holds a complete, checked copy" until_true 120 Promotable has_condition luxembourg Promotable True
  check "each volume is as after a power cut, and it says so" newest_is PerVolume
  hold "touch /tmp/hold; sleep 1"
  check "with hooks a copy is quiesced, and says so" until_true 90 "a Quiesced point" newest_is Quiesced
  touch "$folder/late"
  check "the snapshot of the next copy is taken, and no volume can be made of it yet" until_true 90 "a late snapshot" snapshots_are_late
  check "the writer goes on before anything is read" until_true 30 "the writer let go on" writes_on
  job=$(waiting_copy); check "the copy waits" test -n "$job"
  in_site tallinn -n "$OPERATOR" delete pods --all --grace-period=0 --force >/dev/null 2>&1
  until_true 60 "the operator is back" in_site tallinn -n "$OPERATOR" rollout status deployment/data-embassy-controller --timeout=1s
  check "after a killed operator it is the same copy that waits" until_true 10 "the same Job" equal "$(waiting_copy)" "$job"
  rm "$folder/late"
  check "and that is made" until_true 120 "its recovery point" is_at_least "${job##*-}"
  echo "the pool is full" >"$folder/fail"
  check "a snapshot that fails is told" until_true 150 SnapshotFailed has_reason tallinn Replicating SnapshotFailed
  check "with what the driver said" says Replicating "the pool is full"
  check "and nothing stays frozen" until_true 30 "nothing frozen" not_frozen
  rm "$folder/fail"
  replication '{"hooks": null, "driver": {"builtin": {"snapshots": {"className": "kept"}}}}'
  check "a class that keeps every snapshot is refused" until_true 120 SnapshotsUnavailable has_reason tallinn Replicating SnapshotsUnavailable
  check "in a sentence" says Replicating "deletionPolicy: Retain"
  replication '{"driver": {"builtin": {"snapshots": {"className": null, "groupClassName": "together"}}}}'
  job=$(newest_point tallinn)
  check "copies go on" until_true 150 "a newer point" newer_than "$job"
  check "with all volumes as after one power cut" newest_is CrashConsistent
  replication '{"rpo": "7d", "retention": {"immutableFor": "1h"}}'
  check "the last one is restored abroad" until_true 90 "the newest point, restored" is_restored
  check "it is of one moment" test "$(ahead)" -ge 0 -a "$(ahead)" -le 1
  # The sidecar tries a deletion that failed again after up to five minutes.
  check "nothing is left of any copy" nothing_stays
}
