#!/usr/bin/env bash
# Checks the CUDA backend on this machine's GPU and measures it, in about eight minutes; see --help. Its pieces are in
# scripts/gpu/: find.sh (tools and libraries), build.sh, parts.sh (time limits, reports, archive), plan.sh (the parts).
set -euo pipefail

usage() {
  cat <<'TEXT'
scripts/gpu-check.sh [options]

Checks the CUDA backend on this machine's GPU and measures it. Every part has a time limit, the whole takes some eight
minutes. Reports are packed into one small archive after each part, so what was found stays whatever happens next;
node scripts/gpu/report.mjs ARCHIVE makes Markdown of it.

  --prebuilt DIR     executables that --build-only made, so that neither nvcc nor CMake is needed here
  --build-only       builds them, for --arch, and ends; needs no GPU
  --arch NN          what to build for, such as 90 (default: the GPU found)
  --toolkit DIR      CUDA toolkit whose bin/nvcc to use (default: CUDACXX, CUDA_HOME, PATH, /usr/local/cuda, or
                     what scripts/cuda_toolkit.mjs fetched)
  --build DIR        where to build; kept for the next time (default: build-gpu). Executables: DIR/executables
  --device N         which GPU, as nvidia-smi counts them (default: 0)
  --out DIR          where reports go (default: gpu-check-results); the archive is DIR.tar.gz
  --only SECTIONS    of topics, ranks, verify, table, models, profile, sanitizer; comma-separated (default: all)
  --skip SECTIONS    likewise, those to leave out
  --filter PARTS     kernel tests with one of these in topic/name, comma-separated (default: all)
  --limit PART=N     seconds for this part in place of the plan's, such as test-rows=60; may be given again
  --help             this text

To build: nvcc 12.8 or newer, CMake 3.24 or newer and g++. To run: a GPU with its driver. No Node, no network.
Exit status: 0 all passed; 1 something failed; 2 cannot run here, which says what is missing; 130 interrupted.
TEXT
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."

toolkit= device=0 out=gpu-check-results build=build-gpu filter= only= skip= prebuilt= arch= limit= build_only=
declare -A own_limits=()
while [ $# -gt 0 ]; do
  case $1 in
    --toolkit | --device | --out | --build | --filter | --only | --skip | --prebuilt | --arch | --limit)
      [ $# -ge 2 ] || { echo "$1 needs a value; see --help" >&2; exit 2; }
      printf -v "${1#--}" %s "$2"
      if [ "$1" = --limit ]; then
        [[ $limit =~ ^[A-Za-z0-9_-]+=[1-9][0-9]*$ ]] || { echo "Found --limit $limit, expected a part's name, =, and seconds" >&2; exit 2; }
        own_limits[${limit%=*}]=${limit#*=}
      fi
      shift
      ;;
    --build-only) build_only=1 ;;
    --help | -h) usage; exit 0 ;;
    *) echo "Found $1, expected one of the options that --help lists" >&2; exit 2 ;;
  esac
  shift
done

cannot() {
  printf 'gpu-check: %s\n' "$1" >&2
  exit 2
}
sections=topics,ranks,verify,table,models,profile,sanitizer
for name in ${only//,/ } ${skip//,/ }; do
  [[ ,$sections, == *",$name,"* ]] || cannot "found section $name, expected some of $sections."
done
[[ -z $arch || $arch =~ ^[0-9]{2,3}a?$ ]] || cannot "found --arch $arch, expected a number such as 90."
[ -z "$prebuilt" ] || [ -z "$build_only" ] || cannot "--prebuilt and --build-only exclude each other."
if [ -n "$prebuilt" ]; then
  for name in cuda_tests gpu_bench; do
    [ -x "$prebuilt/$name" ] || cannot "--prebuilt $prebuilt holds no $name; make it with: scripts/gpu-check.sh --build-only --arch 90"
  done
  prebuilt=$(realpath "$prebuilt")
fi

for piece in find parts build plan; do
  # shellcheck source=/dev/null
  . "scripts/gpu/$piece.sh"
done

if [ -n "$build_only" ]; then
  [ -n "$arch" ] || cannot "--build-only needs --arch, such as --arch 90."
  find_nvcc
  prepare_reports
  build_executables || exit 1
  echo "Executables for sm_$arch: $executables ($(du -sh "$executables" | cut -f1))"
  exit 0
fi

find_gpu
[ -n "$prebuilt" ] || find_nvcc
find_libraries
prepare_reports
print_facts
if [ -n "$prebuilt" ]; then
  executables=$prebuilt
else
  build_executables || exit 1
fi
run_plan
finish
