#include "cuda/switches.h"

#include <cstdlib>
#include <string_view>

namespace shardspeed::cuda {

static bool isSet(const char* name, std::string_view value) {
  const char* found = std::getenv(name);
  return found && found == value;
}

bool graphsWanted() {
  return !isSet("SHARDSPEED_CUDA_GRAPHS", "0");
}

bool overlapWanted() {
  return !isSet("SHARDSPEED_CUDA_PDL", "0");
}

bool libraryWanted() {
  return !isSet("SHARDSPEED_CUDA_GEMM", "own");
}

}  // namespace shardspeed::cuda
