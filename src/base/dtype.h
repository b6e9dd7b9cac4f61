#pragma once

#include <cstddef>
#include <cstdint>

namespace shardspeed {

// Storage type of the numbers in a checkpoint or in the engine's weights. Arithmetic may use another type: the CPU
// backend computes in fp32. kF64 is a checkpoint's only: its numbers are converted when they are read.
enum class DType : uint8_t { kF32, kF16, kBF16, kF64 };

constexpr size_t dtypeSize(DType dtype) {
  return dtype == DType::kF64 ? 8 : dtype == DType::kF32 ? 4 : 2;
}

constexpr const char* dtypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kF64:
      return "float64";
    default:
      return "bfloat16";
  }
}

}  // namespace shardspeed
