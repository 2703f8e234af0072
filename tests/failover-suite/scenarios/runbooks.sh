# The runbooks of docs/failover.md, each command as it is written there, answered as a person would.

RUNBOOKS=$(tr '\n' ' ' <"$REPOSITORY/docs/failover.md" | tr -s ' ')

# as_written SITE COMMAND [ANSWER]: a command of the runbooks, word for word but for the names, typed in that site's cluster.
as_written() {
  local site=$1 text=$2 answer=${3:-} command inside=()
  grep -qF "\`$text\`" <<<"$RUNBOOKS" || { echo "docs/failover.md does not say: $text"; return 1; }
  command=${text//NAMESPACE/$NAMESPACE}
  command=${command//NAME/$NAME}
  command=${command//THIS-SITE/$site}
  command=${command//EMBASSY/luxembourg}
  command=${command//HOME/tallinn}
  command=${command//YOU/officer}
  command=${command//WHY/exercise}
  [ ! -e "/run/netns/tb-$site" ] || inside=(nsenter "--net=/run/netns/tb-$site")
  # shellcheck disable=SC2086
  PATH="$BINARIES:$("$TESTBED" bin):$PATH" KUBECONFIG=$("$TESTBED" kubeconfig "$site") "${inside[@]}" timeout 120 $command <<<"$answer"
}
says() { local text=$1; shift; "$@" 2>&1 | grep -F "$text"; }
step() { local what=$1; shift; check "$what" as_written "$@"; }

TAKE_OVER='kubectl embassy failover NAME -n NAMESPACE --to EMBASSY --forced --by YOU --reason WHY'
TAKE_BACK='kubectl embassy failover NAME -n NAMESPACE --to THIS-SITE --forced --by YOU --reason WHY'
RUN_AT_HOME='kubectl embassy failover NAME -n NAMESPACE --to HOME --forced --peer fenced --by YOU --reason WHY'
GO_HOME='kubectl embassy failover NAME -n NAMESPACE --to HOME'
ABORT='kubectl embassy abort NAME -n NAMESPACE'
DISCARD='kubectl embassy discard NAME -n NAMESPACE'
FENCE='kubectl embassy fence NAME -n NAMESPACE'
LIFT='kubectl embassy lift NAME -n NAMESPACE'
RESUME='kubectl embassy resume NAME -n NAMESPACE --by YOU --reason WHY'

scenario_runbooks() {
  local lost="take over $NAME and lose what was not copied"
  # What follows builds on what was before it.
  runbook_home_is_gone "$lost" && runbook_hanging_switch && runbook_target_is_dead "$lost" && runbook_keep_closed &&
    runbook_cold_start_alone && runbook_namespace_deleted "$lost"
  judge tallinn tallinn luxembourg
}

runbook_home_is_gone() {
  local lost=$1 cut
  cut=$(now)
  "$TESTBED" kill tallinn >/dev/null
  # It ends with failure, since not all is well.
  check "home is gone: status, at the embassy" says "1/tallinn" as_written luxembourg 'kubectl embassy status'
  step "home is gone: take over" luxembourg "$TAKE_OVER" "$lost"
  check "luxembourg writes" until_true 60 "a write" wrote_after luxembourg "$cut"
  allow_loss luxembourg tallinn "$(now)"
  "$TESTBED" start tallinn >/dev/null
  check "home comes back with bytes of its own" until_true 120 Diverged has_role tallinn Diverged || return 1
  check "a discard that is not answered does nothing" refused_with "not acknowledged" as_written tallinn "$DISCARD" no
  check "it still holds them" has_role tallinn Diverged
  step "home is diverged: discard" tallinn "$DISCARD" "discard $(field tallinn "failoverrecord/$NAME" '{.spec.diverged}') of $NAME"
  in_step tallinn luxembourg
  step "back home, planned" luxembourg "$GO_HOME" "move $NAME to tallinn"
  in_step luxembourg tallinn
}

# stuck_after_handover: a planned switch whose target's operator stands still; its process id is in STOPPED.
stuck_after_handover() {
  local begun; begun=$(now)
  STOPPED=$(python3 "$SUITE/strike.py" operator luxembourg); kill -STOP "$STOPPED"
  order tallinn luxembourg $(($(number_in tallinn) + 1))
  at_role 60 tallinn Demoted "$begun"
}

runbook_hanging_switch() {
  local abort
  stuck_after_handover || { check "a switch hangs after the handover" false; return 1; }
  step "it says for what it waits" tallinn 'kubectl get failovers -n NAMESPACE'
  as_written tallinn "$ABORT" "keep $NAME in tallinn" >"$WITNESS/abort" 2>&1 & abort=$!
  sleep 3
  kill -CONT "$STOPPED"
  wait "$abort"
  check "a switch that hangs: abort" equal $? 0
  check "home writes again" until_true 60 "a write" wrote_after tallinn "$(now)"
  in_step luxembourg tallinn
}

runbook_target_is_dead() {
  local lost=$1
  stuck_after_handover || { check "a switch hangs after the handover" false; return 1; }
  "$TESTBED" kill luxembourg >/dev/null
  step "the other site is dead: force the role back" tallinn "$TAKE_BACK" "$lost"
  check "home writes again" until_true 60 "a write" wrote_after tallinn "$(now)"
  "$TESTBED" start luxembourg >/dev/null
  in_step luxembourg tallinn
}

runbook_keep_closed() {
  step "keep a site closed: fence" luxembourg "$FENCE" "fence $NAME in luxembourg"
  until_true 60 "tallinn knows of it" shows_role tallinn luxembourg Fenced
  check "nothing is given to a fenced site" refused_with "held" within 60 move tallinn luxembourg
  step "open it again: lift" luxembourg "$LIFT" "lift the fence of $NAME in luxembourg"
  in_step luxembourg tallinn
}

runbook_cold_start_alone() {
  "$TESTBED" kill luxembourg >/dev/null
  "$TESTBED" kill tallinn >/dev/null
  "$TESTBED" start tallinn >/dev/null
  check "home, started anew and alone, is held" until_true 60 "a held home" is_cold tallinn || return 1
  step "it goes on by order: resume" tallinn "$RESUME" "resume $NAME in tallinn"
  check "home writes again" until_true 60 "a write" wrote_after tallinn "$(now)"
  "$TESTBED" start luxembourg >/dev/null
  in_step luxembourg tallinn
}

runbook_namespace_deleted() {
  local lost=$1 deleted
  in_site tallinn delete namespace "$NAMESPACE" --timeout=180s >/dev/null; deleted=$(now)
  in_site tallinn create namespace "$NAMESPACE" >/dev/null
  in_site tallinn apply -f <(manifest embassy.yaml) >/dev/null
  check "the namespace was deleted: made again, home holds a copy" until_true 120 Promotable has_condition tallinn Promotable True || return 1
  step "the namespace was deleted: fence the embassy" luxembourg "$FENCE" "fence $NAME in luxembourg"
  until_true 60 "tallinn knows of it" shows_role tallinn luxembourg Fenced
  step "the namespace was deleted: run at home" tallinn "$RUN_AT_HOME" "$lost"
  check "home writes from the copy" until_true 60 "a write" wrote_after tallinn "$deleted"
  allow_loss tallinn tallinn "$deleted"
  step "and lift the embassy's fence" luxembourg "$LIFT" "lift the fence of $NAME in luxembourg"
  in_step luxembourg tallinn
  step "the record has the history" tallinn 'kubectl get failoverrecord NAME -n NAMESPACE -o yaml'
}
