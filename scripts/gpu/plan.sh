# Sourced by gpu-check.sh: what is run, in which order and for how long. Whatever decides something comes first.

# Their kernels wait for each other: under a tool that runs one kernel at a time they would never end.
spinning=all_reduce,gather_logits,cuda_group,cuda_run_ahead
# Those that the others rest on come first; the rest as the tests name them.
first_topics=(cuda_projection cuda_norm rows cuda_attention_decode cuda_attention_append cuda_attention_prefill sample cuda_backend)
big=Llama-3-8B

bench() {  # NAME SECONDS OPTIONS...
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" "$executables/gpu_bench" --json "$out/$name.json" "$@"
}

# The tables of these parts, without what each begins with.
show() {
  local name
  for name; do
    printf '\n-- %s' "$name"
    sed -e 1d -e '/^memory /,/^read /d' "$out/$name.txt" 2>/dev/null || true
  done
}

is_spinning() {
  [[ ,$spinning, == *",$1,"* ]]
}

list_topics() {
  local topic known
  known=$(timeout -k 1 20 "$executables/cuda_tests" --list ${filter:+--filter "$filter"} | cut -d/ -f1 | sort -u)
  for topic in "${first_topics[@]}" $known; do
    if grep -qx -- "$topic" <<<"$known"; then echo "$topic"; fi
  done | awk '!seen[$0]++'
}

run_topics() {
  local topic topics cases
  mapfile -t topics < <(list_topics)
  [ ${#topics[@]} -gt 0 ] || cannot "cuda_tests names no cases${filter:+ with $filter}: does it run on this machine? Try $executables/cuda_tests --list"
  kernel_topics() {
    for topic in "${topics[@]}"; do
      if is_spinning "$topic"; then [ "$1" = ranks ] || continue; else [ "$1" = topics ] || continue; fi
      cases=$topic/
      if [ -n "$filter" ]; then
        cases=$("$executables/cuda_tests" --list --filter "$filter" | grep "^$topic/" | paste -sd,)
      fi
      part "test-$topic" 20 "$executables/cuda_tests" --filter "$cases" || true
      tail -n 1 "$out/test-$topic.txt" 2>/dev/null || true
    done
  }
  if begin topics 70 "Kernel tests on one rank"; then kernel_topics topics; fi
  if begin ranks 30 "Kernel tests of several ranks"; then kernel_topics ranks; fi
}

run_verify() {
  begin verify 40 "Real shapes against fp64, and bits" || return 0
  if [ -x "$executables/gpu_probe" ]; then
    part probe 10 "$executables/gpu_probe" || true
    cat "$out/probe.txt" 2>/dev/null || true
  else
    not_run probe "it is built for compute capability 9.0 only"
  fi
  bench verify 20 --only verify --models "$big,OPT-13B" || true
  grep FAILED "$out/verify.txt" || true
  bench verify-library 20 --only verify-library --models "$big" || true
  grep -E '^cuBLASLt|FAILED' "$out/verify-library.txt" || true
}

run_table() {
  begin table 90 "Kernels" || return 0
  bench products 30 --only projection --models "$big" --rows 1,8,16,32,64,256 || true
  bench decode 25 --only decode --models "$big" --sequences 1,32 || true
  bench prefill 15 --only prefill --models "$big" || true
  bench library 15 --only library --models "$big" --rows 64,256,2048 || true
  bench products-opt 20 --only projection --models OPT-30B --rows 1,64 --quick || true
  show products decode prefill library products-opt
}

run_models() {
  begin models 100 "Whole models" || return 0
  bench models 45 --only model --models "$big" --quick || true
  local one=(--only model --models "$big" --sequences 1 --quick)
  part model-pdl0 12 env SHARDSPEED_CUDA_PDL=0 "$executables/gpu_bench" --json "$out/model-pdl0.json" "${one[@]}" || true
  part model-graphs0 12 env SHARDSPEED_CUDA_GRAPHS=0 "$executables/gpu_bench" --json "$out/model-graphs0.json" "${one[@]}" || true
  bench prompt 20 --only prompt --models "$big" --quick || true
  bench models-others 35 --only model --models Llama-2-7B,OPT-13B,OPT-30B --sequences 1 --quick || true
  show models model-pdl0 model-graphs0 prompt models-others
}

# profile NAME KERNEL OPTIONS...: one launch of a kernel whose name has KERNEL in it.
profile() {
  local name=$1 kernel=$2
  shift 2
  # Bytes that come from the L2 cache, and the stalls of the loop, beside what the full set has.
  part "$name" 25 "$ncu" --set full --metrics "$ncu_metrics" -k "regex:$kernel" -c 1 --kill yes "$executables/gpu_bench" "$@" ||
    forgive "$name" 'Section: ' "but the kernel was profiled: the benchmark was ended then"
}

run_profile() {
  begin profile 75 "Nsight Compute" || return 0
  ncu_metrics=l1tex__m_xbar2l1tex_read_bytes.sum,dram__bytes_read.sum,smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio
  ncu=$(find_tool ncu ${toolkit:+"$toolkit/bin"} /opt/nvidia/nsight-compute/* /usr/local/cuda/bin) || {
    not_run profile "ncu was found neither in PATH nor in /opt/nvidia/nsight-compute"
    return 0
  }
  local one=(--only projection --models "$big" --kernels norm+gate_up+silu --quick)
  profile ncu-one-row fewTokensKernel "${one[@]}" --rows 1
  profile ncu-64-rows 'fewTokensKernel|manyTokensKernel' "${one[@]}" --rows 64
  profile ncu-decode decodeKernel --only decode --models "$big" --sequences 1 --quick
}

run_sanitizer() {
  begin sanitizer 70 "compute-sanitizer" || return 0
  local sanitizer check topic
  sanitizer=$(find_tool compute-sanitizer ${toolkit:+"$toolkit/bin"} /usr/local/cuda/bin) || {
    not_run sanitizer "compute-sanitizer was found neither in PATH nor in the toolkit"
    return 0
  }
  for check in memcheck/cuda_projection memcheck/cuda_attention_decode memcheck/cuda_attention_prefill racecheck/cuda_projection; do
    topic=${check#*/}
    if is_spinning "$topic"; then continue; fi
    run_check "${check%/*}" "$topic"
  done
}

run_check() {
  local name=$1-$2 status=0
  part "$name" 15 "$sanitizer" --tool "$1" --error-exitcode 86 "$executables/cuda_tests" --filter "$2/" || status=$?
  # One that is too slow has not failed where nothing was found until then.
  if [ "$status" = 124 ] && ! grep -qE '^========= .*(Invalid|Error|Race|hazard)|FAILED' "$out/$name.txt" 2>/dev/null; then
    forgive "$name" '' "but nothing was found until then"
  fi
}

run_plan() {
  section=start section_ends=$((SECONDS + 30))
  if ! part start 30 "$executables/cuda_tests" --list; then
    tail -n 5 "$out/start.txt" >&2
    echo "gpu-check: the executables do not run here; build them on a machine with the same C library" >&2
    finish
  fi
  run_topics
  run_verify
  run_table
  run_models
  compare_predictions
  run_profile
  run_sanitizer
}

compare_predictions() {
  local figures
  mapfile -t figures < <(grep -l '"figures"' "$out"/*.json)
  [ ${#figures[@]} -gt 0 ] || return 0
  header "Predictions"
  awk -v gpu="$gpu" -f scripts/gpu/predictions.awk scripts/gpu/predictions.json "${figures[@]}" | tee "$out/predictions.txt" || true
  pack
}
