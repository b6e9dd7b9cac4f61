#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/cpu_features.h"
#include "cpu/kernels.h"

namespace shardspeed::test {

extern const KernelTable kEmulated512Kernels;

// Whether this processor runs a set; the emulated one runs anywhere.
inline bool canRun(const KernelTable& table) {
  const std::vector<std::string> names = availableKernels();
  return &table == &kEmulated512Kernels || std::find(names.begin(), names.end(), table.name) != names.end();
}

inline std::vector<const KernelTable*> allKernels() {
#if defined(__x86_64__)
  return {&kPortableKernels, &kAvx2Kernels, &kAvx512Kernels, &kEmulated512Kernels};
#else
  return {&kPortableKernels, &kEmulated512Kernels};
#endif
}

// Makes backends use one kernel set for as long as it lives.
class ChosenKernels {
 public:
  explicit ChosenKernels(const std::string& name) {
    const char* before = std::getenv("SHARDSPEED_CPU");
    before_ = before ? before : "";
    setenv("SHARDSPEED_CPU", name.c_str(), 1);
  }
  ~ChosenKernels() { setenv("SHARDSPEED_CPU", before_.c_str(), 1); }

 private:
  std::string before_;
};

}  // namespace shardspeed::test

// A case for each kernel set; `kernels` is the set. One that this processor cannot run is reported as skipped.
#define KERNEL_TEST(topic, title)                                                  \
  static void kernels_##topic##_##title(const ::shardspeed::KernelTable& kernels); \
  template <const ::shardspeed::KernelTable& table>                                \
  static void kernelCase_##topic##_##title() {                                     \
    if (!::shardspeed::test::canRun(table))                                        \
      SKIP(std::string("this processor cannot run the kernel set ") + table.name); \
    kernels_##topic##_##title(table);                                              \
  }                                                                                \
  KERNEL_CASE(topic, title, portable, ::shardspeed::kPortableKernels)              \
  KERNEL_CASES_X86(topic, title)                                                   \
  KERNEL_CASE(topic, title, emulated512, ::shardspeed::test::kEmulated512Kernels)  \
  static void kernels_##topic##_##title(const ::shardspeed::KernelTable& kernels)
#define KERNEL_CASE(topic, title, set, table)                                           \
  static const ::shardspeed::test::Registration registration_##topic##_##title##_##set{ \
      #topic, #title "." #set, kernelCase_##topic##_##title<table>};
#if defined(__x86_64__)
#define KERNEL_CASES_X86(topic, title)                        \
  KERNEL_CASE(topic, title, avx2, ::shardspeed::kAvx2Kernels) \
  KERNEL_CASE(topic, title, avx512, ::shardspeed::kAvx512Kernels)
#else
#define KERNEL_CASES_X86(topic, title)
#endif
