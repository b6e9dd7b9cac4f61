#pragma once

#include <string>
#include <vector>

#include "cpu/kernels.h"

namespace shardspeed {

// The kernel sets that this processor and its operating system can run, slowest first.
std::vector<std::string> availableKernels();

// The best of them, or the one that the environment variable SHARDSPEED_CPU names. Throws ERR_INVALID_ARGUMENT where it
// names one that does not exist or cannot run here.
const KernelTable& chooseKernels();
std::string chosenKernels();

}  // namespace shardspeed
