# Operators of two versions, this one and the next, in both orders, in the middle of a planned switch. The next one writes
# documents that this one does not know.

# An image of the next version. It takes the place of this one among the built programs, which are kept beside.
next_image() {
  local folder built
  [ -z "${NEXT_ARCHIVE:-}" ] || return 0
  folder=$(mktemp -d)
  mkdir -p "$WITNESS/binaries" && cp "$BINARIES"/{data-embassy,kubectl-embassy} "$WITNESS/binaries/" || return 1
  built=$("$REPOSITORY/scripts/binaries" "$PROFILE" next-version) || return 1
  cp "$built/data-embassy" "$REPOSITORY/Dockerfile" "$folder/"
  BINARIES=$WITNESS/binaries
  NEXT_ARCHIVE=$("$TESTBED" image localhost/data-embassy:next "$folder")
  rm -rf "$folder"
}

upgrade() {
  "$TESTBED" load "$1" "$NEXT_ARCHIVE" && helm_in "$1" upgrade data-embassy "$REPOSITORY/charts/data-embassy" --namespace "$OPERATOR" \
    --reuse-values --set image.tag=next --wait --timeout 120s >/dev/null
}

scenario_next_version_at_the_embassy_first() {
  local begun pid
  next_image || { check "an image of the next version" false; return 1; }
  REBUILD=1
  begun=$(now)
  pid=$(python3 "$SUITE/strike.py" operator luxembourg); kill -STOP "$pid"
  order tallinn luxembourg $(($(number_in tallinn) + 1))
  at_role 60 tallinn Demoted "$begun"
  kill -KILL "$pid"
  check "the embassy is upgraded after the handover" upgrade luxembourg
  check "the next version takes what this one handed over" until_true 120 Active has_role luxembourg Active
  check "it writes" until_true 60 "a write" wrote_after luxembourg "$begun"
  check "home says that it does not know that version" until_true 60 UnknownVersion has_reason tallinn Stalled UnknownVersion
  check "nothing runs there" equal "$(writers_on_node tallinn)" ""
  check "home is upgraded" upgrade tallinn
  check "it reads on where it stopped, and follows" in_step tallinn luxembourg
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
}

scenario_next_version_at_home_first() {
  local begun mover
  next_image || { check "an image of the next version" false; return 1; }
  REBUILD=1
  begun=$(now)
  order tallinn luxembourg $(($(number_in tallinn) + 1))
  at_role 60 tallinn Demoting "$begun"
  mover=$(python3 "$SUITE/strike.py" mover tallinn "$NAMESPACE" backup)
  check "home is upgraded before the handover" upgrade tallinn
  kill -CONT "$mover"
  check "the next version hands over" at_role 120 tallinn Demoted "$begun"
  check "the embassy says that it does not know that version" until_true 60 UnknownVersion has_reason luxembourg Stalled UnknownVersion
  sleep 10
  check "it takes nothing that it cannot read" has_role luxembourg Standby
  check "nothing runs anywhere" equal "$(writers_on_node tallinn)$(writers_on_node luxembourg)" ""
  check "the embassy is upgraded" upgrade luxembourg
  check "it takes over" until_true 120 Active has_role luxembourg Active
  check "it writes" until_true 60 "a write" wrote_after luxembourg "$begun"
  in_step tallinn luxembourg
  check "and back home" switch luxembourg tallinn
  judge tallinn tallinn luxembourg
}
