#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/half.h"
#include "check.h"
#include "cuda/error.h"
#ifdef SHARDSPEED_CUDA_EMULATOR
#include "emulator.h"
#endif

// What tests of kernels share. They run on the emulator and, the same files compiled by nvcc, on a GPU.

namespace shardspeed::test {

#ifdef SHARDSPEED_CUDA_EMULATOR
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

// Device memory filled with 0xff: NaN in every floating-point type, so that what a kernel forgot to write is seen.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    cuda::check(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()), "cudaMalloc");
    cuda::check(cudaMemset(data_, 0xff, bytes()), "cudaMemset");
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { write(values); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t size() const { return count_; }
  void write(const std::vector<T>& values) {
    cuda::check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  void zero() { cuda::check(cudaMemset(data_, 0, bytes()), "cudaMemset"); }
  // Waits for the kernels before it; throws what went wrong in them.
  std::vector<T> read() const {
    std::vector<T> values(count_);
    cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    cuda::check(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }

 private:
  size_t bytes() const { return (count_ > 0 ? count_ : 1) * sizeof(T); }
  T* data_ = nullptr;
  size_t count_;
};

// The 16-bit elements of a test, as bits.
inline uint16_t toElement(DType dtype, float value) {
  return dtype == DType::kF16 ? floatToHalf(value) : floatToBfloat16(value);
}
inline float fromElement(DType dtype, uint16_t bits) {
  return dtype == DType::kF16 ? halfToFloat(bits) : bfloat16ToFloat(bits);
}

// Runs body under every order of threads and every timing of asynchronous copies that the emulator knows (fewer in
// sanitizer builds); once on a GPU. The body's checks name the schedule.
inline void underAllSchedules(const std::function<void()>& body) {
#ifdef SHARDSPEED_CUDA_EMULATOR
  for (const emulator::Schedule& schedule : emulator::schedules(kReduced ? 2 : 6)) {
    emulator::setSchedule(schedule);
    const std::string name = emulator::describe(schedule);
    const Note note("schedule", name);
    body();
  }
  emulator::setSchedule({});
#else
  body();
#endif
}

}  // namespace shardspeed::test
