# Sourced by gpu-check.sh: parts with time limits of their own, what they said, and the archive.

# Each child runs in a process group of its own, so that all of it can be ended.
set -m
child=
results=()
failures=()
section=
section_ends=0

end_child() {
  [ -n "$child" ] || return 0
  kill -TERM -- "-$child" 2>/dev/null || true
  local tries
  for tries in 1 2 3 4; do
    kill -0 -- "-$child" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$child" 2>/dev/null || true
  child=
}
stop() {
  trap - INT TERM HUP EXIT
  end_child
  results+=("$(printf '{"section": "%s", "part": "%s", "result": "interrupted", "seconds": 0}' "$section" "${part-}")")
  [ -z "${out_is_made-}" ] || pack
  printf '\ngpu-check: interrupted\n' >&2
  exit 130
}
trap stop INT TERM HUP

prepare_reports() {
  mkdir -p "$out"
  out=$(realpath "$out")
  rm -f "$out"/*.txt "$out"/*.json "$out.tar.gz"
  cp scripts/gpu/predictions.json "$out/predictions.json"
  out_is_made=1
}

header() {
  printf '\n== %s\n' "$1"
}

wants() {
  [[ -z $only || ,$only, == *",$1,"* ]] && [[ ,$skip, != *",$1,"* ]]
}

# begin SECTION SECONDS TITLE: false where it is not wanted. Its parts have these seconds together.
begin() {
  wants "$1" || return 1
  section=$1
  section_ends=$((SECONDS + $2))
  header "$3"
}

# part NAME SECONDS COMMAND...: runs it and keeps what it says in NAME.txt. Its status; 124 where it was ended for time.
part() {
  local name=$1 limit left status=0 began=$SECONDS said
  limit=${own_limits[$name]:-$2}
  shift 2
  part=$name
  left=$((section_ends - SECONDS))
  # Who gives a part more time gives it to the section.
  if [ -n "${own_limits[$name]-}" ] && [ "$limit" -gt "$left" ]; then
    section_ends=$((section_ends + limit)) left=$limit
  fi
  if [ "$left" -lt 1 ]; then
    finish_part "$name" "left out, no time" 0
    return 124
  fi
  [ "$left" -ge "$limit" ] || limit=$left
  timeout -k 2 "$limit" "$@" >"$out/$name.txt" 2>&1 </dev/null &
  child=$!
  { wait "$child" || status=$?; } 2>/dev/null
  # Of a group that was ended, or whose leader has ended, nothing may go on.
  kill -KILL -- "-$child" 2>/dev/null || true
  child=
  [ "$status" != 137 ] || status=124
  said=passed
  case $status in
    0) ;;
    124) said="no end within $limit s" ;;
    *) said="failed with exit status $status" ;;
  esac
  finish_part "$name" "$said" $((SECONDS - began))
  return "$status"
}

finish_part() {  # NAME RESULT SECONDS
  local name=$1 result=$2
  printf '%-28s %-34s %3s s\n' "$name" "$result" "$3"
  results+=("$(printf '{"section": "%s", "part": "%s", "result": "%s", "seconds": %s}' "$section" "$name" "$result" "$3")")
  [ "$result" = passed ] || [[ $result == "not run"* ]] || failures+=("$name")
  pack
}

# forgive NAME PATTERN WHY: the part that was the last is no failure if it said PATTERN, where there is one.
forgive() {
  [ -z "$2" ] || grep -qE -- "$2" "$out/$1.txt" 2>/dev/null || return 0
  unset 'failures[-1]'
  results[-1]=${results[-1]/\", \"seconds\"/, $3\", \"seconds\"}
  printf '  %s\n' "$3"
  pack
}

# A part that cannot run on this machine is no failure.
not_run() {  # NAME WHY
  finish_part "$1" "not run: $2" 0
}

json_string() {
  local text=${1//\\/\\\\}
  text=${text//$'\n'/ }
  printf '"%s"' "${text//\"/\\\"}"
}

write_results() {
  local separator= entry
  {
    printf '{\n  "gpu": %s,\n  "computeCapability": %s,\n' "$(json_string "${gpu-}")" "$(json_string "${capability-}")"
    printf '  "driver": %s,\n  "nvcc": %s,\n' "$(json_string "${driver-}")" "$(json_string "${nvcc_is:-built elsewhere}")"
    printf '  "libraries": %s,\n  "date": "%s",\n  "parts": [' "$(json_string "${libraries_are-}")" "$(date -u +%FT%TZ)"
    for entry in "${results[@]+"${results[@]}"}"; do
      printf '%s\n    %s' "$separator" "$entry"
      separator=,
    done
    printf '\n  ]\n}\n'
  } >"$out/results.json"
}

# The archive, anew and in one step: whoever reads it finds a whole one. Of long outputs both ends are kept.
pack() {
  local file
  for file in "$out"/*.txt; do
    [ -f "$file" ] && [ "$(stat -c %s "$file")" -gt 131072 ] || continue
    { head -c 65536 "$file"; printf '\n... (cut)\n'; tail -c 61440 "$file"; } >"$file.cut"
    mv "$file.cut" "$file"
  done
  write_results
  tar -C "$(dirname "$out")" -czf "$out.tar.gz.part" "$(basename "$out")"
  mv "$out.tar.gz.part" "$out.tar.gz"
}

print_facts() {
  {
    printf 'GPU        %s, compute capability %s, %s MiB\ndriver     %s\n' "$gpu" "$capability" "$memory" "$driver"
    printf 'nvcc       %s\nlibraries  %s\nreports    %s.tar.gz\n' "${nvcc:-not used}" "$libraries_are" "$out"
  } | tee "$out/facts.txt"
}

finish() {
  header Result
  pack
  if [ ${#failures[@]} -gt 0 ]; then
    echo "FAILED: ${failures[*]} (reports in $out.tar.gz)"
    exit 1
  fi
  echo "All passed (reports in $out.tar.gz)"
  exit 0
}
