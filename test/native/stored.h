#pragma once

#include <cstring>
#include <vector>

#include "base/dtype.h"
#include "base/half.h"

namespace shardspeed::test {

// A value as a dtype keeps it.
inline float roundedTo(DType dtype, float value) {
  if (dtype == DType::kF32 || dtype == DType::kF64) return value;
  return dtype == DType::kF16 ? halfToFloat(floatToHalf(value)) : bfloat16ToFloat(floatToBfloat16(value));
}

inline void appendStored(DType dtype, float value, std::vector<uint8_t>& bytes) {
  uint8_t raw[8];
  const double wide = value;
  const uint16_t half = dtype == DType::kF16 ? floatToHalf(value) : floatToBfloat16(value);
  if (dtype == DType::kF32)
    std::memcpy(raw, &value, 4);
  else if (dtype == DType::kF64)
    std::memcpy(raw, &wide, 8);
  else
    std::memcpy(raw, &half, 2);
  bytes.insert(bytes.end(), raw, raw + dtypeSize(dtype));
}

inline float loadStored(DType dtype, const uint8_t* at) {
  float value;
  uint16_t half;
  if (dtype == DType::kF32) {
    std::memcpy(&value, at, 4);
    return value;
  }
  std::memcpy(&half, at, 2);
  return dtype == DType::kF16 ? halfToFloat(half) : bfloat16ToFloat(half);
}

}  // namespace shardspeed::test
