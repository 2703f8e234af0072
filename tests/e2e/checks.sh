# Assertions that are counted, and a sentence for each.

PASSED=0 FAILED=0

# check DESCRIPTION COMMAND...: one assertion.
check() {
  local what=$1 output; shift
  if output=$("$@" 2>&1); then
    PASSED=$((PASSED + 1)); say "ok      $what"
  else
    FAILED=$((FAILED + 1)); say "FAILED  $what"; printf '%s\n' "$output" | tail -n 12 | sed 's/^/          /'
  fi
}
equal() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }
refused_with() { local sentence=$1 output; shift; output=$("$@" 2>&1) && { echo "was not refused"; return 1; }; grep -q "$sentence" <<<"$output" || { echo "$output"; return 1; }; }
