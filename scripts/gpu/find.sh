# Sourced by gpu-check.sh: the GPU, nvcc, the profiler, compute-sanitizer, and libraries that only Python packages have.

nvcc_version() {
  "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p'
}

# Sets nvcc, nvcc_is and toolkit.
find_nvcc() {
  local candidate candidates seen=
  if [ -n "$toolkit" ]; then
    [ -x "$toolkit/bin/nvcc" ] || cannot "--toolkit $toolkit has no bin/nvcc."
    candidates=("$toolkit/bin/nvcc")
  else
    candidates=("${CUDACXX:-}" "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc
      "${SHARDSPEED_CUDA_CACHE:-.cache/cuda}"/toolkit-*/nvidia/cu13/bin/nvcc)
  fi
  for candidate in "${candidates[@]}"; do
    [ -n "$candidate" ] && [ -x "$candidate" ] || continue
    nvcc_is=$(nvcc_version "$candidate")
    if [ -n "$nvcc_is" ] && [ "$(printf '%s\n12.8\n' "$nvcc_is" | sort -V | head -n 1)" = 12.8 ]; then
      nvcc=$(realpath "$candidate")
      toolkit=$(dirname "$(dirname "$nvcc")")
      return
    fi
    seen="$seen $candidate (${nvcc_is:-does not run})"
  done
  cannot "no nvcc 12.8 or newer was found${seen:+, only$seen}. Install CUDA, name it with --toolkit, fetch a compiler (node scripts/cuda_toolkit.mjs), or bring executables: --prebuilt"
}

query() {
  nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits -i "$device" 2>&1 | head -n 1 | sed 's/^ *//; s/ *$//'
}

# Sets gpu, capability, driver, memory, and arch where it was not given.
find_gpu() {
  command -v nvidia-smi >/dev/null || cannot "nvidia-smi was not found: is there a GPU with its driver on this machine?"
  gpu=$(query name)
  capability=$(query compute_cap)
  driver=$(query driver_version)
  memory=$(query memory.total)
  [[ $capability =~ ^[0-9]+\.[0-9]+$ ]] || cannot "nvidia-smi names no GPU $device; it said: $gpu"
  local own=${capability/./}
  [ "$own" -ge 80 ] || cannot "$gpu has compute capability $capability; the kernels need 8.0 or newer."
  arch=${arch:-$own}
  export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=$device
  # Ranks that share a device wait for each other in kernels: each needs a queue of its own, and loading a kernel when it
  # is first used would wait for those that run.
  export CUDA_DEVICE_MAX_CONNECTIONS=32 CUDA_MODULE_LOADING=EAGER
}

python_folders() {
  local python
  for python in python3 python; do
    command -v "$python" >/dev/null || continue
    timeout -k 1 10 "$python" -c 'import site, sys; print("\n".join(dict.fromkeys(site.getsitepackages() + [site.getusersitepackages()] + sys.path)))' 2>/dev/null
    break
  done
  # Without a Python that runs, and for those that it does not know of.
  printf '%s\n' "${VIRTUAL_ENV:-/nowhere}"/lib/python3*/site-packages "${CONDA_PREFIX:-/nowhere}"/lib/python3*/site-packages \
    "$HOME"/.local/lib/python3*/site-packages /usr/local/lib/python3*/{dist,site}-packages /usr/lib/python3*/{dist,site}-packages \
    /opt/*/lib/python3*/site-packages
}

# Sets LD_LIBRARY_PATH so that the dynamic loader finds cuBLASLt and NCCL, and libraries_are for the report.
find_libraries() {
  local folder place library found=() candidates=()
  while read -r folder; do
    for place in cu13/lib cu12/lib cublas/lib nccl/lib cuda_runtime/lib cuda_nvrtc/lib; do
      candidates+=("$folder/nvidia/$place")
    done
  done < <(python_folders)
  candidates+=("${toolkit:+$toolkit/lib64}" "${toolkit:+$toolkit/lib}" /usr/local/cuda/lib64)
  for folder in "${candidates[@]}"; do
    [ -n "$folder" ] && compgen -G "$folder/lib*.so*" >/dev/null || continue
    [[ ":$(IFS=:; echo "${found[*]-}"):" == *":$folder:"* ]] || found+=("$folder")
  done
  if [ ${#found[@]} -gt 0 ]; then
    LD_LIBRARY_PATH=$(IFS=:; echo "${found[*]}")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
  fi
  libraries_are=
  for library in libcublasLt libnccl; do
    place=
    for folder in "${found[@]+"${found[@]}"}" ${LD_LIBRARY_PATH:+${LD_LIBRARY_PATH//:/ }}; do
      place=$(compgen -G "$folder/$library.so.*" | head -n 1) && [ -n "$place" ] && break
    done
    [ -n "$place" ] || place=$(ldconfig -p 2>/dev/null | sed -n "s/.*$library\.so\..* => //p" | head -n 1)
    libraries_are="$libraries_are${libraries_are:+, }$library: ${place:-not found}"
  done
}

# find_tool NAME FOLDERS...: the first of PATH and the folders that has it; fails where none has.
find_tool() {
  local name=$1 folder
  shift
  command -v "$name" && return
  for folder in "$@"; do
    if [ -x "$folder/$name" ]; then
      echo "$folder/$name"
      return
    fi
  done
  return 1
}
