# Links cut, power cut, sites that come back in the middle.

scenario_link_cut() {
  local before; before=$(number_in tallinn)/$(field tallinn "failoverrecord/$NAME" '{.spec.revision}')
  "$TESTBED" cut tallinn
  sleep $((10 * ${REPORT_INTERVAL%s}))
  check "home writes while it is cut off" wrote_after tallinn "$(awk -v n="$(now)" 'BEGIN {print n - 2}')"
  check "each site says that it does not hear the other" sh -c "[ '$(condition tallinn PeerReachable)' != True ] && [ '$(condition luxembourg PeerReachable)' != True ]"
  check "home is not called protected" test "$(condition tallinn Protected)" != True
  "$TESTBED" heal tallinn
  in_step luxembourg tallinn
  check "home is protected again" until_true 90 Protected has_condition tallinn Protected True
  check "no role and no revision changed" equal "$(number_in tallinn)/$(field tallinn "failoverrecord/$NAME" '{.spec.revision}')" "$before"
  check "luxembourg never left Standby" equal "$(awk '$1 == "luxembourg" {print $3}' "$WITNESS/roles" | sort -u)" Standby
  judge tallinn tallinn
}

# The phases of a planned switch from home, each told by what can be seen from outside.
phase_begins() {
  local phase=$1 begun=$2
  case $phase in
    demoting) at_role 60 tallinn Demoting "$begun" ;;
    # Stopped in the middle, so that it cannot be over before the power is.
    final_copy) at_role 60 tallinn Demoting "$begun" && python3 "$SUITE/strike.py" mover tallinn "$NAMESPACE" backup >/dev/null ;;
    demoted) at_role 60 tallinn Demoted "$begun" ;;
    peer_promoting) at_role 60 luxembourg Promoting "$begun" ;;
    peer_active) at_role 60 luxembourg Active "$begun" ;;
    yielding) at_role 60 tallinn Standby "$begun" ;;
  esac
}

scenario_power_cut_in_each_phase() {
  local phase begun
  for phase in ${PHASES:-demoting final_copy demoted peer_promoting peer_active yielding}; do
    begun=$(now)
    order tallinn luxembourg $(($(number_in tallinn) + 1))
    phase_begins "$phase" "$begun" || { check "phase $phase is reached" false; return 1; }
    "$TESTBED" kill tallinn >/dev/null
    say "        power cut in phase $phase; home's record was last seen as $(awk '$1 == "tallinn" {r = $3} END {print r}' "$WITNESS/roles"), luxembourg's as $(awk '$1 == "luxembourg" {r = $3} END {print r}' "$WITNESS/roles")"
    sleep 4
    "$TESTBED" start tallinn >/dev/null
    check "power cut in phase $phase: luxembourg rules in the end" until_true 120 Active has_role luxembourg Active
    check "power cut in phase $phase: home follows it, with nothing to give up" until_true 120 "a free standby" free_standby tallinn luxembourg
    check "power cut in phase $phase: home's volume is not mounted by any writer" equal "$(writers_on_node tallinn)" ""
    check "and back home" switch luxembourg tallinn
  done
  judge tallinn tallinn luxembourg
}

# Behind the API server's back, and when home is gone: the record says that the volume holds a whole copy, and it holds nothing.
scenario_volume_emptied() {
  local cut_at forced lines
  in_step luxembourg tallinn
  cut_at=$(now)
  "$TESTBED" kill tallinn >/dev/null
  lines=$(wc -l <"$(volume luxembourg)/log")
  find "$(volume luxembourg)" -mindepth 1 -delete
  forced=$(now)
  check "luxembourg takes over" within 120 take_over luxembourg
  check "luxembourg writes" until_true 60 "a write" wrote_after luxembourg "$forced"
  check "an event says that the volume had lost something" sh -c "'$TESTBED' kubectl luxembourg -n $NAMESPACE get events -o jsonpath='{.items[*].reason}' | grep -q VolumesIncomplete"
  check "every line of the copy is there" test "$(wc -l <"$(volume luxembourg)/log")" -ge "$lines"
  allow_loss luxembourg tallinn "$cut_at"
  "$TESTBED" start tallinn >/dev/null
  rejoin tallinn
  in_step tallinn luxembourg
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
}

scenario_home_returns_while_restoring() {
  local mover stopped=$WITNESS/stopped cut_at
  # The next copy of home's is caught in the middle of its restore, which then takes as long as this scenario needs.
  python3 "$SUITE/strike.py" mover luxembourg "$NAMESPACE" restore >"$stopped" || { check "a restore is under way" false; return 1; }
  mover=$(cat "$stopped")
  check "a restore is under way" until_true 10 Restoring sh -c "'$TESTBED' kubectl luxembourg -n $NAMESPACE get failoverrecord $NAME -o jsonpath='{.spec.volumes.condition}' | grep -q Restoring"
  cut_at=$(now)
  "$TESTBED" kill tallinn >/dev/null
  within 100 take_over luxembourg >"$WITNESS/forced" 2>&1 & local ordering=$!
  sleep 3
  check "nothing starts on half a copy" equal "$(writers_on_node luxembourg)" ""
  "$TESTBED" start tallinn >/dev/null
  say "        home is back while the restore stands still; roles: $(role tallinn), $(role luxembourg)"
  sleep 5
  kill -CONT "$mover"
  wait $ordering
  say "        the forced order: $(tail -n 1 "$WITNESS/forced")"
  check "one site rules in the end" until_true 120 "one Active" sh -c "
    one=\$('$TESTBED' kubectl tallinn -n $NAMESPACE get failoverrecord $NAME -o jsonpath='{.spec.role}{.spec.coldFence}')
    other=\$('$TESTBED' kubectl luxembourg -n $NAMESPACE get failoverrecord $NAME -o jsonpath='{.spec.role}')
    [ \"\$one\$other\" = ActivefalseStandby ] || [ \"\$other\" = Active -a \"\${one#Active}\" = \"\$one\" ]"
  if has_role luxembourg Active; then
    allow_loss luxembourg tallinn "$cut_at"
    rejoin tallinn
    in_step tallinn luxembourg
    check "and back home" switch luxembourg tallinn
  fi
  in_step luxembourg tallinn
  judge tallinn tallinn
}
