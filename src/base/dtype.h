#pragma once

#include <cstddef>
#include <cstdint>

namespace shardspeed {

// How numbers are stored: in a checkpoint, in the engine's weights. Arithmetic is another matter (the CPU backend's is
// fp32).
enum class DType : uint8_t { kF32, kF16, kBF16 };

constexpr size_t dtypeSize(DType dtype) {
  return dtype == DType::kF32 ? 4 : 2;
}

constexpr const char* dtypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    default:
      return "bfloat16";
  }
}

}  // namespace shardspeed
