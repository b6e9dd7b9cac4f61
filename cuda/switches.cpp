#include "cuda/switches.h"

#include <algorithm>
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

bool ncclWanted() {
  return !isSet("SHARDSPEED_CUDA_NCCL", "0");
}

bool aheadWanted() {
  return !isSet("SHARDSPEED_CUDA_AHEAD", "0");
}

int64_t mostPushedBytes() {
  // Where one stage, in which every rank sends all it has to every other, is quicker than two, in which it sends parts.
  constexpr int64_t kUsual = 512 << 10;
  constexpr int64_t kMost = 64 << 20;
  const char* found = std::getenv("SHARDSPEED_CUDA_PUSH_BYTES");
  if (!found) return kUsual;
  char* end = nullptr;
  const long long bytes = std::strtoll(found, &end, 10);
  return end != found && *end == '\0' && bytes >= 0 ? std::min<int64_t>(bytes, kMost) : kUsual;
}

}  // namespace shardspeed::cuda
