#include "cpu/cpu_features.h"

#include <cstdlib>

#include "base/error.h"

namespace shardspeed {

static std::vector<const KernelTable*> runnableKernels() {
  std::vector<const KernelTable*> tables = {&kPortableKernels};
#if defined(__x86_64__)
  // These ask the operating system too: registers that it does not save are not reported.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (avx2) tables.push_back(&kAvx2Kernels);
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    tables.push_back(&kAvx512Kernels);
#endif
  return tables;
}

std::vector<std::string> availableKernels() {
  std::vector<std::string> names;
  for (const KernelTable* table : runnableKernels()) names.emplace_back(table->name);
  return names;
}

const KernelTable& chooseKernels() {
  const std::vector<const KernelTable*> tables = runnableKernels();
  const char* wanted = std::getenv("SHARDSPEED_CPU");
  if (!wanted || !*wanted) return *tables.back();
  std::string known;
  for (const KernelTable* table : tables) {
    if (std::string(wanted) == table->name) return *table;
    known += (known.empty() ? "" : ", ") + std::string(table->name);
  }
  throw Error("ERR_INVALID_ARGUMENT", "Found SHARDSPEED_CPU=" + std::string(wanted) +
                                          ", expected one of the kernel sets that this processor runs: " + known);
}

std::string chosenKernels() {
  return chooseKernels().name;
}

}  // namespace shardspeed
