#include <cmath>

#include "cuda/device.h"
#include "cuda/launch.cuh"

// What launches and allocations may ask for, and errors made to order.

namespace shardspeed::test {
namespace {

__global__ void nothing(int) {}
__global__ void nothingElse(int) {}

cudaError_t tryLaunch(dim3 grid, dim3 block, size_t sharedBytes, void (*kernel)(int) = nothing,
                      bool cooperative = false) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = sharedBytes;
  config.attrs = &attribute;
  config.numAttrs = cooperative ? 1 : 0;
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, 0);
  cudaGetLastError();
  return status;
}

TEST(emulator_limits, launches) {
  emulator::reset();
  CHECK_EQ(tryLaunch(1, 1024, 0), cudaSuccess);
  CHECK_EQ(tryLaunch(1, 1025, 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(tryLaunch(1, dim3(32, 33), 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(tryLaunch(1, dim3(1, 1, 65), 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(tryLaunch(0, 32, 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(tryLaunch(dim3(1, 65536), 32, 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(tryLaunch(dim3(1, 1, 65536), 32, 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(tryLaunch(dim3(70000), 1, 0), cudaSuccess);
  CHECK_EQ(tryLaunch(1, 32, 48 << 10), cudaSuccess);
  CHECK_EQ(tryLaunch(1, 32, (48 << 10) + 1), cudaErrorInvalidValue);
  CHECK_EQ(tryLaunch(7, 1024, 0, nothing, true), cudaSuccess);
  CHECK_EQ(tryLaunch(100, 1024, 0, nothing, true), cudaErrorCooperativeLaunchTooLarge);
  CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST(emulator_limits, shared_memory_on_request) {
  emulator::reset();
  CHECK_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10), cudaSuccess);
  CHECK_EQ(tryLaunch(2, 32, 227 << 10), cudaSuccess);
  CHECK_EQ(tryLaunch(1, 32, 227 << 10, nothingElse), cudaErrorInvalidValue);  // asked for another kernel
  CHECK_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
           cudaErrorInvalidValue);
  cudaFuncAttributes attributes;
  CHECK_EQ(cudaFuncGetAttributes(&attributes, nothing), cudaSuccess);
  CHECK_EQ(attributes.maxDynamicSharedSizeBytes, 227 << 10);
  int blocks = 0;
  CHECK_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 256, 100 << 10), cudaSuccess);
  CHECK_EQ(blocks, 2);
  CHECK_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 1024, 0), cudaSuccess);
  CHECK_EQ(blocks, 2);
  CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
  emulator::reset();
}

TEST(emulator_limits, memory) {
  emulator::reset();
  emulator::setDeviceMemory(1 << 20);
  size_t free = 0, total = 0;
  void *first = nullptr, *second = nullptr;
  CHECK_EQ(cudaMalloc(&first, 600 << 10), cudaSuccess);
  CHECK_EQ(reinterpret_cast<uintptr_t>(first) % 256, 0);
  CHECK_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  CHECK_EQ(total, 1 << 20);
  CHECK_EQ(free, 424 << 10);
  CHECK_EQ(cudaMalloc(&second, 425 << 10), cudaErrorMemoryAllocation);
  CHECK(second == nullptr);
  CHECK_EQ(cudaMalloc(&second, SIZE_MAX), cudaErrorMemoryAllocation);
  CHECK_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
  CHECK_EQ(cudaFree(first), cudaSuccess);
  CHECK_EQ(cudaFree(first), cudaErrorInvalidValue);
  CHECK_EQ(cudaFree(nullptr), cudaSuccess);
  CHECK_EQ(cudaMalloc(&second, 425 << 10), cudaSuccess);
  CHECK_EQ(cudaFree(second), cudaSuccess);
  CHECK_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  CHECK_EQ(free, total);
  CHECK_EQ(cudaMalloc(&first, 0), cudaSuccess);
  CHECK(first == nullptr);
  emulator::reset();
}

TEST(emulator_limits, errors_to_order) {
  emulator::reset();
  emulator::failCall("cudaMalloc", 2, cudaErrorMemoryAllocation);
  void* memory = nullptr;
  CHECK_EQ(cudaMalloc(&memory, 16), cudaSuccess);
  CHECK_EQ(cudaMalloc(&memory, 16), cudaErrorMemoryAllocation);
  CHECK_EQ(cudaMalloc(&memory, 16), cudaSuccess);
  emulator::failCall("cudaLaunchKernelEx", 1, cudaErrorNoKernelImageForDevice);
  CHECK_THROWS("ERR_CUDA", "cudaErrorNoKernelImageForDevice",
               cuda::launch(nothing, {"nothing", 1, 32, 0, nullptr, false}, 0));
  emulator::failCall("cudaStreamSynchronize", 1, cudaErrorUnknown);
  CHECK_EQ(cudaStreamSynchronize(nullptr), cudaErrorUnknown);
  CHECK_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  emulator::reset();
}

TEST(emulator_limits, devices) {
  emulator::reset();
  emulator::setDeviceCount(2);
  emulator::setComputeCapability(8, 6);
  int count = 0, value = 0;
  CHECK_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  CHECK_EQ(count, 2);
  CHECK_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  CHECK_EQ(cudaDeviceCanAccessPeer(&value, 0, 1), cudaSuccess);
  CHECK_EQ(value, 1);
  CHECK_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 1), cudaSuccess);
  CHECK_EQ(value, 8);
  cudaStream_t stream = nullptr;
  CHECK_EQ(cudaStreamCreate(&stream), cudaSuccess);
  CHECK_EQ(cudaSetDevice(1), cudaSuccess);
  void* memory = nullptr;
  CHECK_EQ(cudaMalloc(&memory, 1000), cudaSuccess);
  cudaPointerAttributes attributes;
  CHECK_EQ(cudaPointerGetAttributes(&attributes, memory), cudaSuccess);
  CHECK(attributes.device == 1 && attributes.type == cudaMemoryTypeDevice);
  // A launch goes to a stream of the device that is current.
  CHECK_THROWS("ERR_CUDA", "cudaErrorInvalidResourceHandle",
               cuda::launch(nothing, {"nothing", 1, 32, 0, stream, false}, 0));
  emulator::reset();
  emulator::setDeviceCount(0);
  CHECK_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  emulator::reset();
}

TEST(emulator_limits, names_of_errors) {
  CHECK_EQ(std::string(cudaGetErrorName(cudaErrorIllegalAddress)), "cudaErrorIllegalAddress");
  CHECK_EQ(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)), "out of memory");
  CHECK_THROWS("ERR_OUT_OF_MEMORY", "out of memory", cuda::check(cudaErrorMemoryAllocation, "reserve"));
}

}  // namespace
}  // namespace shardspeed::test
