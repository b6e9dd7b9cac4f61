#include "cuda/devices.h"

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "cuda/error.h"

namespace shardspeed::cuda {

// cp.async, ldmatrix with 16-bit mma of depth 16, and bfloat16 in tensor cores came with it.
static constexpr int kLeastMajor = 8;

static std::string versionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Leases by device; the mutex is also held while a device is reset. Never destroyed, as no static object that an
// engine's thread uses: it may still run when the process exits.
static std::mutex leasesMutex;
static std::map<int, int>& leases() {
  static auto& held = *new std::map<int, int>;
  return held;
}

// What makes a device useless to the process until it is reset. Out of memory, for one, does not.
static bool isSticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorInvalidPc:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorECCUncorrectable:
      return true;
    default:
      return false;
  }
}

// Chooses a device for this thread and sees that it can be used. With leasesMutex held.
static cudaError_t openDevice(int index) {
  cudaError_t status = cudaSetDevice(index);
  if (status == cudaSuccess) status = cudaFree(nullptr);
  if (!isSticky(status) || leases()[index] > 0) return status;
  // What is reset is the device chosen now, which must be no other one.
  int now = -1;
  if (cudaGetDevice(&now) != cudaSuccess || now != index) return status;
  cudaDeviceReset();
  cudaGetLastError();
  status = cudaSetDevice(index);
  return status == cudaSuccess ? cudaFree(nullptr) : status;
}

DeviceLease::DeviceLease(int index) : index_(index) {
  const std::lock_guard<std::mutex> lock(leasesMutex);
  check(openDevice(index), "opening the device");
  ++leases()[index];
}

DeviceLease::~DeviceLease() {
  const std::lock_guard<std::mutex> lock(leasesMutex);
  --leases()[index_];
}

// Asks the driver only: nothing is opened.
static DeviceReport describe(int index) {
  DeviceReport device;
  device.index = index;
  cudaDeviceProp properties{};
  const cudaError_t status = cudaGetDeviceProperties(&properties, index);
  if (status != cudaSuccess) {
    device.problem = std::string("its properties cannot be read: ") + cudaGetErrorString(status);
    return device;
  }
  device.name = properties.name;
  device.computeCapability = std::to_string(properties.major) + "." + std::to_string(properties.minor);
  device.totalBytes = static_cast<int64_t>(properties.totalGlobalMem);
  if (properties.major < kLeastMajor)
    device.problem = "its compute capability is " + device.computeCapability + ", 8.0 or later is needed (Ampere)";
  return device;
}

// The device stays chosen for this thread: going back to another one would open that, too.
static void readFreeMemory(DeviceReport& device) {
  try {
    const DeviceLease lease(device.index);
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "asking for its memory");
    device.freeBytes = static_cast<int64_t>(free);
  } catch (const Error& error) {
    device.problem = std::string("it cannot be opened: ") + error.what();
  }
}

static std::string countProblem(cudaError_t status, const Report& report) {
  // A driver of the same major version will do.
  const std::string needed = report.runtimeVersion.substr(0, report.runtimeVersion.find('.')) + ".0";
  if (report.driverVersion.empty())
    return "No NVIDIA driver was found (libcuda.so.1). Install one for CUDA " + needed + " or later.";
  if (status == cudaErrorInsufficientDriver)
    return "The NVIDIA driver is too old: it knows CUDA " + report.driverVersion + ", this build needs CUDA " + needed +
           ". Install a newer driver, or an addon for this one: docs/cuda.md, older drivers.";
  if (status == cudaErrorNoDevice)
    return "The NVIDIA driver is there, but shows no device. Check nvidia-smi and CUDA_VISIBLE_DEVICES.";
  return std::string("CUDA cannot list its devices: ") + cudaGetErrorName(status) + ", " + cudaGetErrorString(status);
}

// The error of a device that failed may be all that is said from then on. Opening it once more resets it, where it may
// be.
static cudaError_t countDevices(int* count) {
  const cudaError_t status = cudaGetDeviceCount(count);
  int now = 0;
  if (!isSticky(status) || cudaGetDevice(&now) != cudaSuccess) return status;
  try {
    const DeviceLease lease(now);
  } catch (const Error&) {
    return status;
  }
  return cudaGetDeviceCount(count);
}

Report report(int open) {
  Report result;
  int version = 0;
  if (cudaRuntimeGetVersion(&version) == cudaSuccess) result.runtimeVersion = versionText(version);
  version = 0;
  if (cudaDriverGetVersion(&version) == cudaSuccess && version > 0) result.driverVersion = versionText(version);
  int count = 0;
  const cudaError_t status = countDevices(&count);
  if (status != cudaSuccess || count == 0) {
    result.problem = countProblem(status == cudaSuccess ? cudaErrorNoDevice : status, result);
    cudaGetLastError();  // not to be found by the next call
    return result;
  }
  bool usable = false;
  for (int index = 0; index < count; ++index) {
    DeviceReport device = describe(index);
    if (device.problem.empty() && (open == kAllDevices || open == index)) readFreeMemory(device);
    usable = usable || device.problem.empty();
    result.devices.push_back(std::move(device));
  }
  cudaGetLastError();
  if (!usable)
    result.problem =
        "No device can be used. " + result.devices.front().name + ": " + result.devices.front().problem + ".";
  return result;
}

void requireUsableDevice(int index) {
  const Report found = report();
  if (found.devices.empty()) throw Error("ERR_CUDA", found.problem);
  if (index < 0 || index >= static_cast<int>(found.devices.size()))
    throw Error("ERR_CUDA", "Found cuda:" + std::to_string(index) + ", but the driver shows " +
                                std::to_string(found.devices.size()) + " device(s), counted from cuda:0.");
  const DeviceReport& device = found.devices[static_cast<size_t>(index)];
  if (!device.problem.empty())
    throw Error("ERR_CUDA",
                "cuda:" + std::to_string(index) + " (" + device.name + ") cannot be used: " + device.problem + ".");
}

}  // namespace shardspeed::cuda
