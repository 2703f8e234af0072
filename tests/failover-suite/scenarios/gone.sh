# Things that people delete, and peers that never come back.

scenario_resource_deleted_and_recreated() {
  local before; before=$(field tallinn "failoverrecord/$NAME" '{.spec.role} {.spec.epoch}')
  local run; run=$(awk '$1 == "tallinn" {run = $2} END {print run}' "$WITNESS/acknowledged")
  check "the DataEmbassy can be deleted at home" in_site tallinn -n "$NAMESPACE" delete dataembassy "$NAME" --timeout=20s
  sleep 5
  check "the register runs on" wrote_after tallinn "$(awk -v n="$(now)" 'BEGIN {print n - 2}')"
  in_site tallinn apply -f <(manifest embassy.yaml) >/dev/null
  check "made again, it goes on where it was" in_step luxembourg tallinn
  check "in the same role and epoch" equal "$(field tallinn "failoverrecord/$NAME" '{.spec.role} {.spec.epoch}')" "$before"
  check "home is protected" until_true 60 Protected has_condition tallinn Protected True
  check "the writer was never restarted" equal "$(awk '$1 == "tallinn" {print $2}' "$WITNESS/acknowledged" | sort -u)" "$run"
  check "the DataEmbassy can be deleted at the embassy" in_site luxembourg -n "$NAMESPACE" delete dataembassy "$NAME" --timeout=20s
  check "it comes back from home's mandate" in_step luxembourg tallinn
  check "and a switch works" switch tallinn luxembourg
  # The same at the embassy while it rules.
  in_site luxembourg -n "$NAMESPACE" delete dataembassy "$NAME" --timeout=20s >/dev/null
  sleep 5
  check "deleted at the ruling embassy, the register runs on" wrote_after luxembourg "$(awk -v n="$(now)" 'BEGIN {print n - 2}')"
  in_site luxembourg apply -f <(manifest embassy.yaml) >/dev/null
  check "made again, home still follows" in_step tallinn luxembourg
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
}

scenario_namespace_deleted_at_the_embassy() {
  in_site luxembourg delete namespace "$NAMESPACE" --timeout=120s >/dev/null
  check "the register runs on at home" wrote_after tallinn "$(awk -v n="$(now)" 'BEGIN {print n - 2}')"
  check "the embassy makes its copy anew" in_step luxembourg tallinn
  check "nothing of the register ran there meanwhile" equal "$(writers_on_node luxembourg)" ""
  check "and a switch works" switch tallinn luxembourg
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
}

scenario_namespace_deleted_at_home() {
  local deleted
  in_site tallinn delete namespace "$NAMESPACE" --timeout=180s >/dev/null; deleted=$(now)
  sleep 5
  check "nothing changes at the embassy by itself" has_role luxembourg Standby
  check "luxembourg is ordered to take over" within 100 take_over luxembourg
  allow_loss luxembourg tallinn "$deleted"
  check "it runs the register" until_true 60 "a write" wrote_after luxembourg "$deleted"
  # Home begins anew from Git: an empty namespace and its DataEmbassy.
  in_site tallinn create namespace "$NAMESPACE" >/dev/null
  in_site tallinn apply -f <(manifest embassy.yaml) >/dev/null
  check "home, begun anew, joins as a standby in step" in_step tallinn luxembourg
  check "nothing ran on its empty volume" equal "$(awk -v t="$deleted" '$1 == "tallinn" && $4 > t' "$WITNESS/acknowledged")" ""
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
}

# Last, since it ends with another embassy.
scenario_peer_gone_for_good() {
  "$TESTBED" down luxembourg >/dev/null; REBUILD=1
  check "the DataEmbassy can be deleted while its peer is gone" in_site tallinn -n "$NAMESPACE" delete dataembassy "$NAME" --timeout=20s
  check "the register runs on" wrote_after tallinn "$(awk -v n="$(now)" 'BEGIN {print n - 2}')"
  "$TESTBED" up riga >/dev/null || { check "a third site" false; return 1; }
  install_embassy riga || { check "the operator in riga" false; return 1; }
  HOSTED=$NAMESPACE link_embassy riga LV
  observe tallinn riga
  in_site tallinn apply -f <(manifest embassy.yaml | sed 's/luxembourg/riga/; s/EE, LU/EE, LV/') >/dev/null
  check "riga holds a copy, and home knows it" until_true 120 "a free standby" free_standby riga tallinn
  check "home is protected again" until_true 60 Protected has_condition tallinn Protected True
  check "a switch to riga" within 120 move tallinn riga
  check "riga writes on" until_true 60 "a write" wrote_after riga 0
  check "home follows it" in_step tallinn riga
  judge riga tallinn riga
  "$TESTBED" down riga >/dev/null
}
