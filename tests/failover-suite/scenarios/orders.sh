# People and pipelines that order: twice, too late, again, back.

# Everything that was ever ordered or written here, applied again at both sites, as a pipeline with an old checkout would.
replay() {
  local site
  for site in tallinn luxembourg; do
    in_site "$site" delete -f "$WITNESS/orders.json" --ignore-not-found --wait=false
    in_site "$site" apply -f "$WITNESS/orders.json"
    in_site "$site" apply -f "$WITNESS/old-embassy.yaml"
    in_site "$site" apply -f "$WITNESS/new-embassy.yaml"
  done
}
keep_orders() {
  local site
  for site in tallinn luxembourg; do
    in_site "$site" -n "$NAMESPACE" get failover -o json
  done | jq '.items[] | {apiVersion, kind, metadata: {name: .metadata.name, namespace: .metadata.namespace}, spec}' >"$WITNESS/orders.json"
}

# A forced takeover with home fenced by a person: nothing is false, nothing is cut.
take_over_from_fenced_home() {
  fence tallinn true
  until_true 60 "home is fenced" fenced_and_empty || return 1
  FENCED_AT=$(now)
  # luxembourg must have read it before an order may attest it.
  until_true 60 "luxembourg knows that home is fenced" knows_fence || return 1
  within 100 take_over luxembourg --peer fenced >/dev/null && allow_loss luxembourg tallinn "$FENCED_AT"
}
fenced_and_empty() { [ "$(field tallinn "failoverrecord/$NAME" '{.spec.humanFence}')" = true ] && [ -z "$(in_site tallinn -n "$NAMESPACE" get pods -l '!dataembassy.io/mover' -o name)" ]; }
knows_fence() {
  [ "$(field luxembourg "failoverrecord/$NAME" '{.spec.peers.tallinn}')" = "$(field tallinn "failoverrecord/$NAME" '{.spec.revision}')" ] &&
    [ "$(field tallinn "dataembassy/$NAME" '{.status.ticket}')" != "" ] && sleep $((${REPORT_INTERVAL%s} + 1))
}
# Home, which lost the role while it was fenced, becomes a free standby and gets the role back.
bring_home() {
  rejoin tallinn
  fence tallinn lift
  in_step tallinn luxembourg && switch luxembourg tallinn
}

scenario_old_orders_and_specs() {
  manifest embassy.yaml >"$WITNESS/new-embassy.yaml"
  sed 's/rpo: 30s/rpo: 40s/' "$WITNESS/new-embassy.yaml" >"$WITNESS/old-embassy.yaml"
  check "a first cycle makes orders to replay" cycle_of_orders
  keep_orders
  say "        replayed from now on: $(jq -r .metadata.name "$WITNESS/orders.json" | tr '\n' ' ')"
  local before; before=$(number_in tallinn)
  EACH=0.5 meanwhile replay
  sleep 10
  check "at rest, replaying changes no epoch" equal "$(number_in tallinn)" "$before"
  check "a whole cycle under replay" cycle_of_orders
  end_loops
  check "the epochs are the ordered ones and no others" equal "$(number_in tallinn)" $((before + 5))
  in_step luxembourg tallinn
  judge tallinn tallinn luxembourg
}
# There and back as planned, then forced (which leaves a number free) and back: five numbers.
cycle_of_orders() { switch tallinn luxembourg && switch luxembourg tallinn && take_over_from_fenced_home && bring_home; }

scenario_same_number_to_both_sites() {
  local number begun; number=$(($(number_in tallinn) + 1)); begun=$(now)
  order tallinn luxembourg "$number" & order tallinn tallinn "$number"; wait $!
  check "planned orders with one number to both sites: both come to an end" until_true 120 "an end of each" orders_ended
  check "one site rules, the other is in step" until_true 120 "one ruler and a standby in step" either_in_step
  say "        $(number_in tallinn) is the epoch, $(role tallinn) in tallinn, $(role luxembourg) in luxembourg"
  if has_role luxembourg Active; then check "and back home" switch luxembourg tallinn; fi

  # Two people, a dead link, a home that was started anew: each orders its own site with the same number.
  begun=$(now)
  "$TESTBED" cut tallinn
  "$TESTBED" kill tallinn >/dev/null
  "$TESTBED" start tallinn >/dev/null
  check "home, started anew and alone, is held" until_true 60 "a held home" is_cold tallinn
  local forced; forced=$(now)
  check "luxembourg is ordered to take over" within 100 take_over luxembourg
  check "tallinn is ordered to go on" within 100 take_over tallinn
  say "        $(number_in tallinn)/tallinn against $(number_in luxembourg)/luxembourg, both on an attestation; one of them is false"
  check "the numbers are the same" equal "$(number_in tallinn)" "$(number_in luxembourg)"
  [ "$(number_in tallinn)" = "$(number_in luxembourg)" ] || return 1
  sleep 5
  "$TESTBED" heal tallinn; local healed; healed=$(now)
  check "the lower epoch is fenced: tallinn is above luxembourg" until_true 120 "luxembourg fences itself" settled_in luxembourg
  local gone; gone=$(saw luxembourg Fenced "$healed")
  say "        luxembourg was fenced $(awk -v a="$healed" -v b="$gone" 'BEGIN {printf "%.1f", b - a}') s after the link was healed; its last write $(awk -v a="$healed" -v b="$(last_write luxembourg)" 'BEGIN {printf "%.1f", b - a}') s after"
  allow overlap "$forced" "$(awk -v a="$gone" 'BEGIN {print a + 10}')"
  allow loss luxembourg "$forced" "$(now)"
  check "what only luxembourg has is kept as a recovery point" until_true 60 "a Final point" final_point_of luxembourg
  rejoin luxembourg
  in_step luxembourg tallinn
  judge tallinn tallinn luxembourg
}
orders_ended() {
  in_site tallinn -n "$NAMESPACE" get failover -o json | jq -e '[.items[].status.phase] | length == 2 and all(IN("Superseded", "Rejected", "Completed"))'
}
either_in_step() { free_standby luxembourg tallinn || free_standby tallinn luxembourg; }
settled_in() { role "$1" | grep -Eq 'Standby|Diverged'; }
final_point_of() { in_site luxembourg -n "$NAMESPACE" get recoverypoint -o json | jq -e --arg site "$1" '[.items[] | select(.spec.consistency == "Final" and (.spec.epoch | endswith("/" + $site)))] | length > 0'; }

scenario_abort() {
  local number begun=0; number=$(number_in tallinn)
  begun=$(now)
  order tallinn luxembourg $((number + 1))
  at_role 60 tallinn Demoting "$begun"
  order tallinn tallinn $((number + 2))
  check "an abort before the handover makes home active again" until_true 60 "Active in the order's epoch" has_epoch tallinn $((number + 2))/tallinn
  check "home writes again" until_true 60 "a write" wrote_after tallinn "$(now)"
  in_step luxembourg tallinn
  check "nothing was handed over" sh -c "! awk '\$1 == \"tallinn\" && \$3 == \"Demoted\"' '$WITNESS/roles' | grep -q ."

  number=$(number_in tallinn); begun=$(now)
  order tallinn luxembourg $((number + 1))
  at_role 60 tallinn Demoting "$begun"
  # luxembourg's operator is stopped, so that it cannot take over before the abort is there.
  local pid; pid=$(python3 "$SUITE/strike.py" operator luxembourg)
  kill -STOP "$pid"
  at_role 60 tallinn Demoted "$begun"
  order tallinn tallinn $((number + 2))
  check "home asks the role back" until_true 20 "the abort on record" sh -c "[ \"\$('$TESTBED' kubectl tallinn -n $NAMESPACE get failoverrecord $NAME -o jsonpath='{.spec.abort}')\" = $((number + 2))/tallinn ]"
  check "nobody writes until luxembourg let it pass" equal "$(writers_on_node tallinn)$(writers_on_node luxembourg)" ""
  kill -CONT "$pid"
  check "an abort after the handover makes home active once luxembourg let it pass" until_true 90 "Active in the order's epoch" has_epoch tallinn $((number + 2))/tallinn
  check "luxembourg never took over" sh -c "! awk '\$1 == \"luxembourg\" && \$3 != \"Standby\"' '$WITNESS/roles' | grep -q ."
  check "home writes again" until_true 60 "a write" wrote_after tallinn "$(now)"
  in_step luxembourg tallinn
  judge tallinn tallinn
}
has_epoch() { [ "$(field "$1" "failoverrecord/$NAME" '{.spec.role} {.spec.epoch}')" = "Active $2" ]; }

scenario_orders_deleted_and_recreated() {
  local begun; begun=$(now)
  order tallinn luxembourg $(($(number_in tallinn) + 1))
  at_role 60 tallinn Demoting "$begun"
  keep_orders
  in_site tallinn -n "$NAMESPACE" delete failover --all >/dev/null
  check "a switch goes on without its order" in_step tallinn luxembourg
  in_site tallinn apply -f "$WITNESS/orders.json" >/dev/null
  check "the order made again from Git is over" until_true 20 "an end" sh -c "'$TESTBED' kubectl tallinn -n $NAMESPACE get failover -o jsonpath='{.items[*].status.phase}' | grep -Eq '^(Superseded|Completed)\$'"
  check "and back home" switch luxembourg tallinn
  keep_orders
  for site in tallinn luxembourg; do
    in_site "$site" -n "$NAMESPACE" delete failover --all >/dev/null
    in_site "$site" apply -f "$WITNESS/orders.json" >/dev/null
  done
  local before; before=$(number_in tallinn)
  sleep 10
  check "every order made again from Git changes nothing" equal "$(number_in tallinn)" "$before"
  check "none of them is under way" sh -c "! '$TESTBED' kubectl tallinn -n $NAMESPACE get failover -o jsonpath='{.items[*].status.phase}' | grep -Eq 'Progressing|Pending'"
  in_step luxembourg tallinn
  judge tallinn tallinn luxembourg
}
