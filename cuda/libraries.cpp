#include "cuda/libraries.h"

#include <dlfcn.h>

#include <cstddef>
#include <iterator>

namespace shardspeed::cuda {

namespace {

std::string versionText(size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version % 10000 / 100) + "." +
         std::to_string(version % 100);
}

// versionOf(symbol): what the function of this address says.
template <typename VersionOf>
LibraryReport describe(const char* name, const char* const* files, size_t count, const char* symbol,
                       VersionOf versionOf) {
  LibraryReport report;
  report.name = name;
  for (size_t i = 0; i < count; ++i) {
    // Never closed, as where it is used: it keeps state with the driver, and threads.
    void* library = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
    void* function = library != nullptr ? dlsym(library, symbol) : nullptr;
    if (function == nullptr) {
      const char* why = dlerror();
      report.problem += (report.problem.empty() ? "" : "; ") + std::string(why != nullptr ? why : files[i]);
      continue;
    }
    Dl_info info{};
    report.path = dladdr(function, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : files[i];
    report.version = versionText(versionOf(function));
    report.problem.clear();
    break;
  }
  return report;
}

}  // namespace

std::vector<LibraryReport> findLibraries() {
  const auto cublasLt = [](void* function) { return reinterpret_cast<size_t (*)()>(function)(); };
  const auto nccl = [](void* function) {
    int version = 0;
    reinterpret_cast<int (*)(int*)>(function)(&version);
    return static_cast<size_t>(version);
  };
  return {describe("cuBLASLt", kCublasLtNames, std::size(kCublasLtNames), "cublasLtGetVersion", cublasLt),
          describe("NCCL", &kNcclName, 1, "ncclGetVersion", nccl)};
}

}  // namespace shardspeed::cuda
