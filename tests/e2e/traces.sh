# The operators' logs of a whole run, those of killed operators too, and their replay through the protocol.

# keep_traces FOLDER SITE...: on the disk of the sites, a name of its own for every log of an operator as soon as there is one, since the node forgets a Pod's logs
# with the Pod. Runs until it is ended.
keep_traces() {
  local folder=$1 site log file; shift
  mkdir -p "$folder"
  while sleep 1; do
    for site in "$@"; do
      for log in "$(dirname "$("$TESTBED" kubeconfig "$site" 2>/dev/null)")/podlogs/${OPERATOR}_data-embassy-controller-"*/controller/*.log; do
        file=$folder/$site.$(stat -c %i "$log" 2>/dev/null) || continue
        [ -e "$file" ] || ln "$log" "$file" 2>/dev/null
      done
    done
  done
}

# replay_traces FOLDER: fails on a step that the protocol does not allow.
replay_traces() {
  local file logs=()
  while read -r _ file; do
    # The runtime splits long lines; P marks all parts but the last.
    awk '{flag = $3; sub(/^[^ ]+ [^ ]+ [^ ]+ /, ""); printf "%s%s", $0, flag == "P" ? "" : "\n"}' "$file" >"$file.log"
    logs+=("$file.log")
  done < <(for file in "$1"/*.[0-9]*; do [[ $file == *.log ]] || echo "$(head -n 1 "$file" | cut -d' ' -f1) $file"; done | sort)
  [ ${#logs[@]} -gt 0 ] || { echo "no log of an operator was kept"; return 1; }
  "$REPOSITORY/scripts/replay" "${logs[@]}" && return
  local kept; kept=$(mktemp -d /var/tmp/data-embassy-traces.XXXX)
  cp "${logs[@]}" "$kept"
  echo "the logs are kept in $kept: scripts/replay FILE..."
  return 1
}
