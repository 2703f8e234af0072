# The operator killed after each of its writes, or stopped for a while.

audit() { "$TESTBED" audit "$1"; }
size_of() { stat -c %s "$1"; }

# killed_after SITE NUMBER COMMAND...: the command, with that site's operator killed right after its write of that number.
# 1: there were not so many writes.
killed_after() {
  local site=$1 number=$2; shift 2
  local armed=$WITNESS/armed; : >"$armed"
  python3 "$SUITE/strike.py" kill "$site" "$(audit "$site")" "$NAMESPACE" "$number" >"$armed" 2>&1 & local striker=$!
  until_true 10 "the striker is armed" grep -q armed "$armed" || return 2
  "$@"; local code=$?
  kill "$striker" 2>/dev/null; wait "$striker" 2>/dev/null
  STRUCK=$(sed -n 's/^killed after //p' "$armed")
  [ -n "$STRUCK" ] || return 1
  [ $code -eq 0 ] || return 2
}

# reference WHAT SITE COMMAND: the command, undisturbed; how many writes SITE's operator makes in it is in WRITES.
reference() {
  local what=$1 site=$2 command=$3 writes start
  start=$(size_of "$(audit "$site")")
  "$command" || { check "$what, undisturbed" false; return 1; }
  writes=$(python3 "$SUITE/strike.py" writes "$(audit "$site")" "$NAMESPACE" "$start")
  WRITES=$(wc -l <<<"$writes")
  say "        $what: $WRITES writes of $site's operator in the reference run"
  sed 's/^/            /' <<<"$writes"
}

# killed_once WHAT SITE NUMBER COMMAND: the command ends as ordered, although SITE's operator was killed after that write.
killed_once() {
  local what=$1 site=$2 number=$3 command=$4
  killed_after "$site" "$number" "$command"
  case $? in
    0) check "$what, $site's operator killed after $STRUCK" true ;;
    1) say "        $what: there was no write $number this time" ;;
    *) check "$what, $site's operator killed after ${STRUCK:-write $number}: ends as ordered" false; return 1 ;;
  esac
}

# each_write SITE WHAT THERE RETURN BACK: after every write that SITE's operator makes in THERE, and in BACK if RETURN says what
# that is; without, BACK leads home undisturbed.
each_write() {
  local site=$1 what=$2 there=$3 return=$4 back=$5 number most
  reference "$what" "$site" "$there" || return 1
  most=$WRITES
  if [ -n "$return" ]; then
    reference "$return" "$site" "$back" || return 1
    most=$((WRITES > most ? WRITES : most))
  else
    "$back" || { check "back home after $what" false; return 1; }
  fi
  for number in $(seq "${FROM_WRITE:-1}" "${STEP:-1}" "$most"); do
    killed_once "$what" "$site" "$number" "$there" || return 1
    if [ -n "$return" ]; then
      killed_once "$return" "$site" "$number" "$back" || return 1
    else
      "$back" || { check "back home after write $number" false; return 1; }
    fi
  done
}

there_as_planned() { as_planned tallinn luxembourg; }
back_as_planned() { as_planned luxembourg tallinn; }
as_planned() {
  order "$1" "$2" $(($(number_in "$1") + 1)) || return 1
  watch_for 120 "$2" "failoverrecord/$NAME" jsonpath='{.spec.role}'=Active
  watch_for 120 "$1" "failoverrecord/$NAME" jsonpath='{.spec.role}'=Standby
  watch_for 120 "$1" "dataembassy/$NAME" condition=Promotable
  until_true 60 "the switch ends" ended_as_planned "$1" "$2"
}
ended_as_planned() { has_role "$2" Active && free_standby "$1" "$2"; }

# Both ways, so that the operator that is killed gives the role away and takes it.
kill_both_ways() { each_write "$1" "planned switch abroad" there_as_planned "planned switch home" back_as_planned; judge tallinn tallinn luxembourg; }
scenario_kill_after_each_write_planned_home() { kill_both_ways tallinn; }
scenario_kill_after_each_write_planned_embassy() { kill_both_ways luxembourg; }

# Forced, with home fenced by a person: the order alone is what the kills hit.
forced_there() {
  local number ticket
  number=$(($(number_in luxembourg) + 2)); ticket=$(field luxembourg "failoverrecord/$NAME" '{.spec.revision}.{.spec.peers.tallinn}')
  in_site luxembourg create -f - >/dev/null <<YAML
apiVersion: dataembassy.io/v1alpha1
kind: Failover
metadata: {name: "$NAME-$number-forced", namespace: $NAMESPACE}
spec: {embassy: $NAME, to: luxembourg, epoch: $number, mode: Forced, ticket: "$ticket", acknowledgeDataLoss: true, attestation: {peer: Fenced, by: duty officer, reason: a test of every write}}
YAML
  until_true 120 "luxembourg rules" has_epoch luxembourg "$number/luxembourg" && until_true 60 "it writes" wrote_after luxembourg "$(now)"
}
home_fenced() {
  fence tallinn true
  until_true 60 "home is fenced" fenced_and_empty && FENCED_AT=$(now) && until_true 60 "luxembourg knows" knows_fence
}
forced_back() { allow_loss luxembourg tallinn "$FENCED_AT" && bring_home && home_fenced; }

scenario_kill_after_each_write_forced() {
  home_fenced || { check "home is fenced" false; return 1; }
  each_write luxembourg "forced switch" forced_there "" forced_back
  fence tallinn lift
  in_step luxembourg tallinn
  judge tallinn tallinn luxembourg
}

scenario_operator_stopped() {
  local pid begun
  # At the site that gives the role away, from the handover until the other one rules.
  begun=$(now)
  order tallinn luxembourg $(($(number_in tallinn) + 1))
  at_role 60 tallinn Demoted "$begun"
  pid=$(python3 "$SUITE/strike.py" operator tallinn); kill -STOP "$pid"
  check "luxembourg takes over while home's operator stands still" until_true 20 Active has_role luxembourg Active
  sleep 2
  kill -CONT "$pid"
  check "when it goes on, home follows" in_step tallinn luxembourg
  # At the site that takes over, through the whole switch.
  pid=$(python3 "$SUITE/strike.py" operator tallinn); begun=$(now)
  order luxembourg tallinn $(($(number_in luxembourg) + 1))
  at_role 60 luxembourg Demoting "$begun"
  kill -STOP "$pid"
  sleep 15
  check "nobody takes over in the name of an operator that stands still" equal "$(role tallinn)$(writers_on_node tallinn)$(writers_on_node luxembourg)" Standby
  kill -CONT "$pid"
  check "when it goes on, it takes over" in_step luxembourg tallinn
  # At home, fenced by a person, through a forced switch; the person asks to lift the fence meanwhile.
  home_fenced
  pid=$(python3 "$SUITE/strike.py" operator tallinn); kill -STOP "$pid"
  fence tallinn lift
  check "luxembourg is forced to take over while home's operator stands still" forced_there
  allow_loss luxembourg tallinn "$FENCED_AT"
  kill -CONT "$pid"
  check "when it goes on, home starts nothing, although the lift was asked for" until_true 60 "Standby or Diverged" settled
  check "no writer ran at home" sh -c "! awk -v t=$FENCED_AT '\$1 == \"tallinn\" && \$4 > t' '$WITNESS/acknowledged' | grep -q ."
  rejoin tallinn
  in_step tallinn luxembourg
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
}
