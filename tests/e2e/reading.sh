# A register that is served to readers abroad, beside the others.

# ask NAMESPACE: what a Pod of that namespace of luxembourg gets by the name that stays. The issue is the time at which it was written.
ask() { in_site luxembourg -n "$1" exec asks -- busybox timeout 5 busybox wget -q -O - http://gazette-reading.gazette.svc.cluster.local:8080/issue; }
answered() { [ "$(ask readers)" -gt "${1:-0}" ]; }
not_answered() { ! ask "$1"; }
reading_namespace() { in_site luxembourg -n "$NAMESPACE" get drills -o json | jq -re '[.items[] | select(.status.phase == "Serving")] | max_by(.status.readyAt) | .status.namespace'; }
served_point() { in_site luxembourg -n "$NAMESPACE" get drills -o json | jq -re '[.items[] | select(.status.phase == "Serving").status.recoveryPoint | split("/")[2] | tonumber] | max'; }
serves_later_than() { [ "$(served_point)" -gt "$1" ]; }
reading_namespaces() { in_site luxembourg get namespaces -l dataembassy.io/drill -o name | grep -c "$NAMESPACE-drill-"; }
one_is_left() { [ "$(reading_namespaces)" = 1 ]; }
nothing_is_read() { equal "$(reading_namespaces)" 0 && equal "$(in_site luxembourg -n "$NAMESPACE" get services,drills -o name | grep -v 'service/gazette$')" ""; }
cannot_write() { ! in_site luxembourg -n "$(reading_namespace)" exec deployment/reader -- sh -c 'echo x >/data/issue'; }

case_reading() {
  local NAMESPACE=gazette NAME=gazette first issue name
  in_site tallinn create namespace "$NAMESPACE" >/dev/null
  in_site tallinn apply -f "$HERE/gazette.yaml" >/dev/null
  # Labelled before its Pod: a network plugin may take its time to learn of labels that come later.
  for name in readers strangers; do in_site luxembourg create namespace "$name" >/dev/null; done
  in_site luxembourg label namespace readers gazette=read >/dev/null
  for name in readers strangers; do pod asks | in_site luxembourg -n "$name" apply -f - >/dev/null; done
  # The first copy that is served must hold an issue.
  check "the register writes at home" until_true 60 "the first issue" in_site tallinn -n "$NAMESPACE" exec deployment/writer -- busybox test -s /data/issue
  check "a DataEmbassy for readers is taken" in_site tallinn apply -f <(manifest embassy.yaml |
    sed 's/^  replication:/  standby: ReadOnly\n  reading: {every: 1m, serve: {selector: {reads: "true"}}, ingress: [{from: [{namespaceSelector: {matchLabels: {gazette: read}}}]}]}\n  replication:/')
  check "luxembourg holds a complete, checked copy" until_true 120 Promotable has_condition luxembourg Promotable True
  check "and serves it" until_true 120 Serving has_condition luxembourg Serving True
  check "readers get the answer by a name that stays" until_true 60 "an issue" answered
  check "strangers get none" not_answered strangers
  check "what is served cannot be written" cannot_write
  check "the workload that writes was not started" equal "$(in_site luxembourg -n "$(reading_namespace)" get deployments -o name)" "deployment.apps/reader"
  check "nothing of the register runs in its own namespace" mover_only luxembourg
  first=$(served_point); issue=$(ask readers)
  check "it is exchanged for a newer one" until_true 180 "a later point" serves_later_than "$first"
  check "which the readers see by the same name" until_true 60 "a later issue" answered "$issue"
  check "and the older one is gone" until_true 90 "one namespace" one_is_left
  in_site tallinn -n "$NAMESPACE" patch dataembassy "$NAME" --type merge -p '{"spec":{"standby":"Warm","reading":null}}' >/dev/null
  check "a warm standby serves nobody, and leaves nothing" until_true 120 "nothing left" nothing_is_read
  check "the condition is gone with it" until_true 20 "no condition" sh -c "[ -z \"\$('$TESTBED' kubectl luxembourg -n $NAMESPACE get dataembassy $NAME -o jsonpath='{.status.conditions[?(@.type==\"Serving\")].status}')\" ]"
  replication '{"rpo": "7d", "retention": {"immutableFor": "1h"}}'
}
