#!/usr/bin/env bash
# Builds the native tests and the benchmark for the GPU found, runs the kernel tests on it, then compute-sanitizer over
# them, then the benchmark; see --help. Needs nvcc 12.8 or newer, CMake 3.24 or newer and g++; no Node, no network.
set -euo pipefail

usage() {
  cat <<'TEXT'
scripts/gpu-check.sh [options]

Checks the CUDA backend on this machine's GPU and measures it. What it prints is kept as text and JSON.

  --toolkit DIR      CUDA toolkit whose bin/nvcc to use (default: CUDACXX, CUDA_HOME, PATH, /usr/local/cuda, or
                     what scripts/cuda_toolkit.mjs fetched)
  --device N         which GPU, as nvidia-smi counts them (default: 0)
  --out DIR          where reports go (default: gpu-check-results)
  --build DIR        where to build; kept for the next time (default: build-gpu)
  --filter PARTS     kernel tests with one of these in topic/name, comma-separated (default: all)
  --quick            fewer shapes and repeats in the benchmark, no whole models, a short compute-sanitizer run
  --skip-tests       no kernel tests
  --skip-sanitizer   no compute-sanitizer
  --skip-bench       no benchmark
  --help             this text

Exit status: 0 all passed; 1 something failed; 2 cannot run here, which says what is missing; 130 interrupted.
TEXT
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."

toolkit= device=0 out=gpu-check-results build=build-gpu filter= quick= tests=1 sanitizer=1 bench=1
while [ $# -gt 0 ]; do
  case $1 in
    --toolkit | --device | --out | --build | --filter)
      [ $# -ge 2 ] || { echo "$1 needs a value; see --help" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      shift
      ;;
    --quick) quick=1 ;;
    --skip-tests) tests= ;;
    --skip-sanitizer) sanitizer= ;;
    --skip-bench) bench= ;;
    --help | -h) usage; exit 0 ;;
    *) echo "Found $1, expected one of the options that --help lists" >&2; exit 2 ;;
  esac
  shift
done

cannot() {
  printf 'gpu-check: %s\n' "$1" >&2
  exit 2
}

# --- Children, and their end. Each runs in a process group of its own, so that all of it can be ended.

set -m
child=
stop() {
  trap - INT TERM EXIT
  if [ -n "$child" ]; then
    kill -TERM -- "-$child" 2>/dev/null || true
    sleep 0.2
    kill -KILL -- "-$child" 2>/dev/null || true
  fi
  printf '\ngpu-check: interrupted\n' >&2
  exit 130
}
trap stop INT TERM

# run LOG COMMAND...: shows and keeps what the command says.
run() {
  local log=$1 status=0
  shift
  ("$@" 2>&1 | tee "$log"; exit "${PIPESTATUS[0]}") &
  child=$!
  wait "$child" || status=$?
  child=
  return "$status"
}

# --- What there is

[ -f CMakeLists.txt ] && [ -d cuda ] || cannot "$PWD is no checkout of shardspeed."
for command in cmake "${CXX:-g++}"; do
  command -v "$command" >/dev/null || cannot "$command was not found (Debian, Ubuntu: apt install cmake g++)."
done
version=$(cmake --version | sed -n 's/^cmake version \([0-9.]*\).*/\1/p')
[ "$(printf '%s\n3.24\n' "$version" | sort -V | head -n 1)" = 3.24 ] || cannot "CMake $version is too old, 3.24 is needed."

nvcc_version() {
  "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p'
}
find_nvcc() {
  local candidate
  if [ -n "$toolkit" ]; then
    [ -x "$toolkit/bin/nvcc" ] || cannot "--toolkit $toolkit has no bin/nvcc."
    candidates=("$toolkit/bin/nvcc")
  else
    candidates=("${CUDACXX:-}" "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc
      "${SHARDSPEED_CUDA_CACHE:-.cache/cuda}"/toolkit-*/nvidia/cu13/bin/nvcc)
  fi
  local seen=
  for candidate in "${candidates[@]}"; do
    [ -n "$candidate" ] && [ -x "$candidate" ] || continue
    nvcc_is=$(nvcc_version "$candidate")
    if [ -n "$nvcc_is" ] && [ "$(printf '%s\n12.8\n' "$nvcc_is" | sort -V | head -n 1)" = 12.8 ]; then
      nvcc=$(realpath "$candidate")
      return
    fi
    seen="$seen $candidate (${nvcc_is:-does not run})"
  done
  cannot "no nvcc 12.8 or newer was found${seen:+, only$seen}. Install CUDA, name it with --toolkit, or fetch a compiler: node scripts/cuda_toolkit.mjs"
}
find_nvcc
toolkit=$(dirname "$(dirname "$nvcc")")
# A toolkit of packages keeps its libraries in lib, where neither nvcc nor CMake looks.
if [ ! -e "$toolkit/lib64" ] && [ -e "$toolkit/lib/libcudart_static.a" ]; then
  ln -s lib "$toolkit/lib64" || cannot "$toolkit has lib but no lib64; run: ln -s lib $toolkit/lib64"
fi

command -v nvidia-smi >/dev/null || cannot "nvidia-smi was not found: is there a GPU with its driver on this machine?"
query() {
  nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits -i "$device" 2>&1 | head -n 1 | sed 's/^ *//; s/ *$//'
}
gpu=$(query name)
capability=$(query compute_cap)
driver=$(query driver_version)
memory=$(query memory.total)
[[ $capability =~ ^[0-9]+\.[0-9]+$ ]] || cannot "nvidia-smi names no GPU $device; it said: $gpu"
arch=${capability/./}
[ "$arch" -ge 80 ] || cannot "$gpu has compute capability $capability; the kernels need 8.0 or newer."
export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=$device

mkdir -p "$out"
out=$(realpath "$out")
failures=()
declare -A results=()

header() {
  printf '\n== %s\n' "$1"
}
printf 'GPU      %s, compute capability %s, %s MiB\ndriver   %s\nnvcc     %s (%s)\nreports  %s\n' \
  "$gpu" "$capability" "$memory" "$driver" "$nvcc_is" "$nvcc" "$out"

# --- Build

header "Building for sm_$arch"
generator=()
if command -v ninja >/dev/null; then generator=(-G Ninja); fi
configure=(cmake -S . -B "$build" "${generator[@]}" -DSHARDSPEED_CUDA=ON -DSHARDSPEED_TESTS=ON -DSHARDSPEED_BENCH=ON
  "-DCMAKE_CUDA_COMPILER=$nvcc" "-DCMAKE_CUDA_ARCHITECTURES=$arch-real" -DCMAKE_CUDA_FLAGS=-lineinfo)
# A folder of another checkout, toolkit or generator cannot be used again.
run "$out/configure.log" "${configure[@]}" >/dev/null || {
  rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles"
  run "$out/configure.log" "${configure[@]}" || { echo "gpu-check: CMake failed" >&2; exit 1; }
}
run "$out/build.log" cmake --build "$build" --parallel "$(nproc)" --target cuda_tests gpu_bench || {
  echo "gpu-check: the build failed" >&2
  exit 1
}
kernel_tests=$build/test/native/cuda_tests
gpu_bench=$build/bench/native/gpu_bench

# --- Kernel tests

finish_part() {  # NAME STATUS
  results[$1]=$([ "$2" = 0 ] && echo passed || echo failed)
  if [ "$2" != 0 ]; then failures+=("$1"); fi
}

if [ -n "$tests" ]; then
  header "Kernel tests"
  status=0
  run "$out/kernel_tests.log" "$kernel_tests" ${filter:+--filter "$filter"} || status=$?
  finish_part kernel_tests "$status"
fi

# --- compute-sanitizer, topic by topic: a slow one costs its own time limit and not the others' results.

if [ -n "$sanitizer" ]; then
  header "compute-sanitizer"
  tool=$toolkit/bin/compute-sanitizer
  [ -x "$tool" ] || tool=$(command -v compute-sanitizer || true)
  if [ -z "$tool" ]; then
    echo "not run: compute-sanitizer was found neither in $toolkit/bin nor in PATH"
    results[sanitizer]=missing
  else
    limit=${quick:+60}
    limit=${limit:-300}
    mapfile -t topics < <("$kernel_tests" --list ${filter:+--filter "$filter"} | cut -d/ -f1 | sort -u)
    line() { printf '%-12s %-24s %s\n' "$@" | tee -a "$out/sanitizer.txt"; }
    : >"$out/sanitizer.txt"
    line check topic result
    for check in memcheck racecheck; do
      for topic in "${topics[@]}"; do
        log=$out/$check-$topic.log
        status=0
        began=$SECONDS
        run "$log" timeout --foreground -k 10 "$limit" "$tool" --tool "$check" --error-exitcode 86 "$kernel_tests" --filter "$topic/" \
          >/dev/null || status=$?
        case $status in
          0) said="passed, $((SECONDS - began)) s" ;;
          # Too slow is not wrong: what ran until then was clean, else the tool would have said so.
          124) said="no end within $limit s; nothing found until then" ;;
          86) said="FAILED: $(grep -c '^========= \(Invalid\|Error\|Race\|Uninit\)' "$log") findings, see $log" ;;
          *) said="FAILED: exit status $status, see $log" ;;
        esac
        if [ "$status" = 124 ] && grep -q '^========= \(Invalid\|Error\|Race\)' "$log"; then
          status=86 said="FAILED before the end of $limit s, see $log"
        fi
        [ "$status" = 124 ] && status=0
        line "$check" "$topic" "$said"
        finish_part "$check/$topic" "$status"
      done
    done
  fi
fi

# --- Benchmark

if [ -n "$bench" ]; then
  header "Benchmark"
  status=0
  run "$out/bench.txt" "$gpu_bench" --json "$out/bench.json" ${quick:+--quick} || status=$?
  finish_part benchmark "$status"
fi

# --- Report

json_string() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}
{
  printf '{\n  "gpu": %s,\n  "computeCapability": "%s",\n' "$(json_string "$gpu")" "$capability"
  printf '  "driver": %s,\n  "nvcc": "%s",\n  "date": "%s",\n' "$(json_string "$driver")" "$nvcc_is" "$(date -u +%FT%TZ)"
  printf '  "parts": {'
  separator=
  while read -r part; do
    [ -n "$part" ] || continue
    printf '%s\n    "%s": "%s"' "$separator" "$part" "${results[$part]}"
    separator=,
  done < <(printf '%s\n' "${!results[@]}" | sort)
  printf '\n  }\n}\n'
} >"$out/gpu-check.json"

header "Result"
if [ ${#failures[@]} -gt 0 ]; then
  echo "FAILED: ${failures[*]} (reports in $out)"
  exit 1
fi
echo "All passed (reports in $out)"
