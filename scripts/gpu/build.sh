# Sourced by gpu-check.sh: the executables, for one architecture.

# Sets executables.
build_executables() {
  local version command generator=() configure
  for command in cmake "${CXX:-g++}"; do
    command -v "$command" >/dev/null || cannot "$command was not found (Debian, Ubuntu: apt install cmake g++)."
  done
  version=$(cmake --version | sed -n 's/^cmake version \([0-9.]*\).*/\1/p')
  [ "$(printf '%s\n3.24\n' "$version" | sort -V | head -n 1)" = 3.24 ] || cannot "CMake $version is too old, 3.24 is needed."
  # A toolkit of packages keeps its libraries in lib, where neither nvcc nor CMake looks.
  if [ ! -e "$toolkit/lib64" ] && [ -e "$toolkit/lib/libcudart_static.a" ]; then
    ln -s lib "$toolkit/lib64" || cannot "$toolkit has lib but no lib64; run: ln -s lib $toolkit/lib64"
  fi
  header "Building for sm_$arch"
  section=build section_ends=$((SECONDS + 3600))
  if command -v ninja >/dev/null; then generator=(-G Ninja); fi
  configure=(cmake -S . -B "$build" "${generator[@]}" -DSHARDSPEED_CUDA=ON -DSHARDSPEED_TESTS=ON -DSHARDSPEED_BENCH=ON
    "-DCMAKE_CUDA_COMPILER=$nvcc" "-DCMAKE_CUDA_ARCHITECTURES=$arch-real" -DCMAKE_CUDA_FLAGS=-lineinfo
    # They may be run beside older libraries than those of this machine.
    "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc")
  # A folder of another checkout, toolkit or generator cannot be used again.
  part configure 120 "${configure[@]}" >/dev/null || {
    rm -rf "$build/CMakeCache.txt" "$build/CMakeFiles"
    failures=() results=()
    part configure 120 "${configure[@]}" || { tail -n 20 "$out/configure.txt" >&2; return 1; }
  }
  part build 3600 cmake --build "$build" --parallel "$(nproc)" --target cuda_tests gpu_bench || {
    grep -E 'error|Error' "$out/build.txt" | head -n 20 >&2
    return 1
  }
  executables=$build/executables
  mkdir -p "$executables"
  cp "$build/test/native/cuda_tests" "$build/bench/native/gpu_bench" "$executables/"
  rm -f "$executables/gpu_probe"
  # wgmma is in sm_90a and in no other.
  if [ "${arch%a}" = 90 ]; then
    part build_probe 300 "$nvcc" -std=c++20 -O3 -Xcompiler=-static-libstdc++,-static-libgcc -gencode arch=compute_90a,code=sm_90a -o "$executables/gpu_probe" \
      bench/native/probe/{main,wgmma_bits,rings}.cu || { tail -n 20 "$out/build_probe.txt" >&2; return 1; }
  fi
  strip "$executables"/* 2>/dev/null || true
  executables=$(realpath "$executables")
}
