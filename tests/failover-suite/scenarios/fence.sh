# A fence is complete when no container with a protected volume runs, seen on the node, whatever wants one to run.

beside() { sed "s|NAMESPACE|$NAMESPACE|g" "$SUITE/beside.yaml" | in_site "$1" apply -f -; }
# A pipeline that applies its workloads again and again, replicas included.
pipeline() { beside tallinn; apply_register tallinn; }
bare_pod() {
  in_site tallinn create -f - <<YAML
apiVersion: v1
kind: Pod
metadata: {generateName: bare-, namespace: $NAMESPACE}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
  - {name: bare, image: "localhost/busybox:dev", imagePullPolicy: Never, args: [sleep, infinity], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, persistentVolumeClaim: {claimName: data-writer-0}}]
YAML
}
watch_node() { local seen; seen=$(writers_on_node tallinn | tr '\n' ';'); echo "$(now) ${seen:-none}" >>"$WITNESS/node"; }
# none_after TIME: no sample since then saw a process with the volume, and there are samples.
none_after() { awk -v t="$1" '$1 > t {samples++; if ($2 != "none") {print; bad = 1}} END {exit bad || samples < 5}' "$WITNESS/node"; }
scale_of() { field "$1" deployment/beside '{.spec.replicas}'; }

scenario_complete_fence() {
  beside tallinn >/dev/null
  until_true 60 "two Pods beside the writer" sh -c "[ \$('$TESTBED' kubectl tallinn -n $NAMESPACE get deployment beside -o jsonpath='{.status.readyReplicas}') = 2 ]"
  check "before the fence, processes with the volume are seen on the node" test "$(writers_on_node tallinn | wc -l)" -ge 3
  EACH=0.2 meanwhile watch_node
  EACH=1 meanwhile pipeline
  EACH=0.7 meanwhile bare_pod
  sleep 4

  # A planned switch: the record may say Demoted only over a complete fence.
  local begun; begun=$(now)
  order tallinn luxembourg $(($(number_in tallinn) + 1))
  at_role 90 tallinn Demoted "$begun" || { check "home stops under a pipeline, a CronJob and bare Pods" false; return 1; }
  local demoted; demoted=$(saw tallinn Demoted "$begun")
  check "luxembourg takes over" until_true 120 "a free standby" free_standby tallinn luxembourg
  check "the workloads came with their scale" equal "$(scale_of luxembourg)" 2
  over_the_minute
  check "from the record Demoted on, over the turn of a minute, no process at home has the volume" none_after "$demoted"
  end_loops
  EACH=0.2 meanwhile watch_node
  check "and back home" switch luxembourg tallinn
  check "the former scale is back" until_true 30 "two replicas" sh -c "[ \$('$TESTBED' kubectl tallinn -n $NAMESPACE get deployment beside -o jsonpath='{.spec.replicas}') = 2 ]"
  check "the CronJob runs again" equal "$(field tallinn cronjob/minutely '{.spec.suspend}')" false
  in_site tallinn -n "$NAMESPACE" scale deployment/beside --replicas=1 >/dev/null
  in_site tallinn -n "$OPERATOR" delete pods -l app.kubernetes.io/component=controller --wait >/dev/null
  in_step luxembourg tallinn
  sleep 5
  check "it is given back once: what a person scaled since stays" equal "$(scale_of tallinn)" 1

  # A person's fence, with the operator killed when the namespace was labelled and nothing else was done.
  EACH=1 meanwhile pipeline
  EACH=0.7 meanwhile bare_pod
  sleep 3
  killed_after tallinn 3 eval 'fence tallinn true; sleep 5'
  say "        operator killed after ${STRUCK:-nothing}"
  check "the fence is finished by the next operator" until_true 60 "no process with the volume on the node" node_is_clear
  local complete; complete=$(now)
  over_the_minute
  check "it stays complete over the turn of a minute" none_after "$complete"
  end_loops
  fence tallinn lift
  check "lifted, home writes again" until_true 90 "a write" wrote_after tallinn "$(now)"
  in_step luxembourg tallinn
  judge tallinn tallinn luxembourg
}
# Until ten seconds into the next minute: a CronJob of every minute has had its turn.
over_the_minute() { sleep $((70 - $(date +%-S))); }
node_is_clear() { [ -z "$(writers_on_node tallinn)" ]; }
