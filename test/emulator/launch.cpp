#include <map>

#include "engine.h"
#include "runtime.h"
#include "runtime_api.h"
#include "stream.h"

// Launches, checked as CUDA checks them, and the attributes of kernels.

namespace emulator {
namespace {

auto& allowedShared = *new std::map<const void*, size_t>;

cudaError_t checkShape(const cudaLaunchConfig_t& config) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0)
    return cudaErrorInvalidConfiguration;
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  if (block.x > 1024 || block.y > 1024 || block.z > 64 || uint64_t{block.x} * block.y * block.z > 1024)
    return cudaErrorInvalidConfiguration;
  return cudaSuccess;
}

cudaError_t readAttributes(const cudaLaunchConfig_t& config, Grid& grid) {
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttribute& attribute = config.attrs[i];
    switch (attribute.id) {
      case cudaLaunchAttributeCooperative:
        grid.cooperative = attribute.val.cooperative != 0;
        break;
      case cudaLaunchAttributeProgrammaticStreamSerialization:
        grid.overlaps = attribute.val.programmaticStreamSerializationAllowed != 0;
        break;
      case cudaLaunchAttributeIgnore:
      case cudaLaunchAttributePriority:
        break;
      default:
        return cudaErrorInvalidValue;
    }
  }
  return cudaSuccess;
}

}  // namespace

size_t allowedSharedBytes(const void* kernel) {
  const auto found = allowedShared.find(kernel);
  return found != allowedShared.end() ? found->second : device.sharedBytes;
}
void forgetKernels() {
  allowedShared.clear();
}

cudaError_t enqueueLaunch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> run) {
  return call("cudaLaunchKernelEx", [&] {
    const StreamPointer stream = findStream(config.stream);
    if (stream == nullptr || stream->device != currentDevice()) return cudaErrorInvalidResourceHandle;
    if (const cudaError_t status = checkShape(config); status != cudaSuccess) return status;
    if (config.dynamicSmemBytes > allowedSharedBytes(kernel)) return cudaErrorInvalidValue;
    auto grid = std::make_shared<Grid>();
    if (const cudaError_t status = readAttributes(config, *grid); status != cudaSuccess) return status;
    grid->run = std::move(run);
    grid->kernel = kernel;
    grid->size = config.gridDim;
    grid->block = config.blockDim;
    grid->sharedBytes = config.dynamicSmemBytes;
    grid->device = stream->device;
    const uint64_t warps = (uint64_t{grid->block.x} * grid->block.y * grid->block.z + kLanes - 1) / kLanes;
    const uint64_t blocks = uint64_t{grid->size.x} * grid->size.y * grid->size.z;
    if (grid->cooperative && blocks * warps > kDeviceWarps - kLanes) return cudaErrorCooperativeLaunchTooLarge;
    return enqueue(stream, {std::move(grid), nullptr, {}});
  });
}

}  // namespace emulator

using emulator::call;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  return call("cudaFuncSetAttribute", [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
    if (value < 0 || static_cast<size_t>(value) > emulator::device.sharedBytesOnRequest) return cudaErrorInvalidValue;
    emulator::allowedShared[kernel] = std::max<size_t>(static_cast<size_t>(value), emulator::device.sharedBytes);
    return cudaSuccess;
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  return call("cudaFuncGetAttributes", [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    *attributes = {};
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 64;
    attributes->ptxVersion = attributes->binaryVersion = emulator::device.major * 10 + emulator::device.minor;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(emulator::allowedSharedBytes(kernel));
    return cudaSuccess;
  });
}

// By threads and shared memory; the compiler's registers are not known here.
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int blockSize,
                                                          size_t sharedBytes) {
  return call("cudaOccupancyMaxActiveBlocksPerMultiprocessor", [&] {
    if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
    if (blockSize <= 0) return cudaErrorInvalidValue;
    *blocks = 0;
    if (blockSize > 1024 || sharedBytes > emulator::allowedSharedBytes(kernel)) return cudaSuccess;
    const size_t byShared = (emulator::device.sharedBytesOnRequest + 1024) / (sharedBytes + 1024);
    *blocks = static_cast<int>(std::min<size_t>({byShared, 2048 / static_cast<size_t>(blockSize), 32}));
    return cudaSuccess;
  });
}
