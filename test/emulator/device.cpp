#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "dispatch.h"
#include "engine.h"
#include "hosts.h"
#include "memory.h"
#include "peers.h"
#include "report.h"
#include "runtime.h"
#include "runtime_api.h"
#include "stream.h"

// The device and errors.

namespace emulator {

Device device;
thread_local bool inHostFunction;

namespace {

cudaError_t sticky[kMaxDevices];
thread_local cudaError_t lastError;
thread_local int selectedDevice;

struct PlannedFailure {
  int callsLeft;
  cudaError_t error;
  int device;  // -1: any
};
auto& plannedFailures = *new std::map<std::string, PlannedFailure>;
auto& callCounts = *new std::map<std::string, uint64_t>;

bool isSticky(cudaError_t error) {
  return error == cudaErrorIllegalAddress || error == cudaErrorMisalignedAddress || error == cudaErrorLaunchFailure ||
         error == cudaErrorLaunchTimeout;
}

}  // namespace

void setStickyError(int ordinal, cudaError_t error) {
  if (sticky[ordinal] == cudaSuccess) sticky[ordinal] = error;
}
cudaError_t stickyError(int ordinal) {
  return sticky[ordinal];
}
bool anyStickyError() {
  return std::any_of(std::begin(sticky), std::end(sticky), [](cudaError_t error) { return error != cudaSuccess; });
}
int currentDevice() {
  return selectedDevice;
}

cudaError_t beginCall(const char* function, int ordinal) {
  if (inHostFunction) return cudaErrorNotPermitted;
  ++callCounts[function];
  if (sticky[ordinal] != cudaSuccess) return sticky[ordinal];
  if (plannedFailures.empty()) return cudaSuccess;
  const auto planned = plannedFailures.find(function);
  if (planned == plannedFailures.end()) return cudaSuccess;
  if (planned->second.device >= 0 && planned->second.device != ordinal) return cudaSuccess;
  if (--planned->second.callsLeft > 0) return cudaSuccess;
  const cudaError_t error = planned->second.error;
  plannedFailures.erase(planned);
  if (isSticky(error)) failDevice(ordinal, error);
  return error;
}

cudaError_t endCall(cudaError_t status) {
  if (status != cudaSuccess && status != cudaErrorNotReady) lastError = status;
  return status;
}

void forgetErrors() {
  std::fill(std::begin(sticky), std::end(sticky), cudaSuccess);
  lastError = cudaSuccess;
  plannedFailures.clear();
  callCounts.clear();
}

bool exists(int ordinal) {
  return ordinal >= 0 && ordinal < device.count;
}

void failCall(const std::string& function, int nth, int error, int device) {
  const Lock lock;
  plannedFailures[function] = {nth, static_cast<cudaError_t>(error), device};
}

bool isFailurePending() {
  const Lock lock;
  return !plannedFailures.empty();
}

uint64_t calls(const std::string& function) {
  const Lock lock;
  const auto found = callCounts.find(function);
  return found == callCounts.end() ? 0 : found->second;
}

void setDeviceMemory(size_t bytes) {
  const Lock lock;
  device.memoryBytes = bytes;
}
void setDeviceCount(int count) {
  const Lock lock;
  device.count = std::min(count, kMaxDevices);
}
void setComputeCapability(int major, int minor) {
  const Lock lock;
  device.major = major;
  device.minor = minor;
}
void setMultiprocessors(int count) {
  const Lock lock;
  device.multiprocessors = count;
}
void setSharedMemory(size_t bytes) {
  const Lock lock;
  device.sharedBytesOnRequest = bytes;
}

void reset() {
  const Lock lock;
  forgetAllStreams();
  freeAllMemory();
  forgetPeers();
  forgetKernels();
  forgetErrors();
  forgetCopies();
  forgetHosts();
  device = {};
  limits = {};
  engine.schedule = {};
  setReport("");
  selectedDevice = 0;
}

}  // namespace emulator

using emulator::call;
using emulator::device;
using emulator::exists;
using emulator::Lock;

cudaError_t cudaGetLastError() {
  const Lock lock;
  if (const cudaError_t sticky = emulator::stickyError(emulator::selectedDevice); sticky != cudaSuccess) return sticky;
  const cudaError_t error = emulator::lastError;
  emulator::lastError = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const Lock lock;
  const cudaError_t sticky = emulator::stickyError(emulator::selectedDevice);
  return sticky != cudaSuccess ? sticky : emulator::lastError;
}

namespace {
struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
#define EMULATOR_ERROR(error, text) \
  { error, #error, text }
const ErrorText kErrors[] = {
    EMULATOR_ERROR(cudaSuccess, "no error"),
    EMULATOR_ERROR(cudaErrorInvalidValue, "invalid argument"),
    EMULATOR_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    EMULATOR_ERROR(cudaErrorInitializationError, "initialization error"),
    EMULATOR_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    EMULATOR_ERROR(cudaErrorInvalidHostPointer, "invalid host pointer"),
    EMULATOR_ERROR(cudaErrorInvalidDevicePointer, "invalid device pointer"),
    EMULATOR_ERROR(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    EMULATOR_ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    EMULATOR_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    EMULATOR_ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    EMULATOR_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    EMULATOR_ERROR(cudaErrorInvalidKernelImage, "device kernel image is invalid"),
    EMULATOR_ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
    EMULATOR_ERROR(cudaErrorPeerAccessUnsupported, "peer access is not supported between these two devices"),
    EMULATOR_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    EMULATOR_ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
    EMULATOR_ERROR(cudaErrorNotReady, "device not ready"),
    EMULATOR_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    EMULATOR_ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    EMULATOR_ERROR(cudaErrorLaunchTimeout, "the launch timed out and was terminated"),
    EMULATOR_ERROR(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    EMULATOR_ERROR(cudaErrorPeerAccessNotEnabled, "peer access has not been enabled"),
    EMULATOR_ERROR(cudaErrorAssert, "device-side assert triggered"),
    EMULATOR_ERROR(cudaErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is already mapped"),
    EMULATOR_ERROR(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
    EMULATOR_ERROR(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    EMULATOR_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    EMULATOR_ERROR(cudaErrorInvalidAddressSpace, "operation not supported on global/shared address space"),
    EMULATOR_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    EMULATOR_ERROR(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    EMULATOR_ERROR(cudaErrorNotPermitted, "operation not permitted"),
    EMULATOR_ERROR(cudaErrorNotSupported, "operation not supported"),
    EMULATOR_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    EMULATOR_ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    EMULATOR_ERROR(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
    EMULATOR_ERROR(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    EMULATOR_ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    EMULATOR_ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    EMULATOR_ERROR(cudaErrorStreamCaptureImplicit,
                   "operation would make the legacy stream depend on a capturing stream"),
    EMULATOR_ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    EMULATOR_ERROR(cudaErrorStreamCaptureWrongThread,
                   "attempt to terminate a thread-local capture from another thread"),
    EMULATOR_ERROR(cudaErrorUnknown, "unknown error"),
};
#undef EMULATOR_ERROR
}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorText& entry : kErrors)
    if (entry.error == error) return entry.name;
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorText& entry : kErrors)
    if (entry.error == error) return entry.text;
  return "unrecognized error code";
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  return call(__func__, [&] {
    *count = device.count;
    return device.count > 0 ? cudaSuccess : cudaErrorNoDevice;
  });
}

// Away from a device that has failed as well.
cudaError_t cudaSetDevice(int ordinal) {
  return emulator::callOn(exists(ordinal) ? ordinal : emulator::selectedDevice, __func__, [&] {
    if (device.count == 0) return cudaErrorNoDevice;
    if (!exists(ordinal)) return cudaErrorInvalidDevice;
    emulator::selectedDevice = ordinal;
    return cudaSuccess;
  });
}
cudaError_t cudaGetDevice(int* ordinal) {
  const Lock lock;
  *ordinal = emulator::selectedDevice;  // asks no device, so no error of one is in the way
  return cudaSuccess;
}
cudaError_t cudaSetDeviceFlags(unsigned) {
  return call(__func__, [] { return cudaSuccess; });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal) {
  return call(__func__, [&] {
    if (!exists(ordinal)) return device.count == 0 ? cudaErrorNoDevice : cudaErrorInvalidDevice;
    cudaDeviceProp& p = *properties;
    p = {};
    snprintf(p.name, sizeof p.name, "Emulated device %d", ordinal);
    p.uuid.bytes[0] = static_cast<char>(ordinal + 1);
    p.totalGlobalMem = device.memoryBytes;
    p.sharedMemPerBlock = device.sharedBytes;
    p.regsPerBlock = p.regsPerMultiprocessor = 65536;
    p.warpSize = 32;
    p.maxThreadsPerBlock = 1024;
    p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
    p.maxThreadsDim[2] = 64;
    p.maxGridSize[0] = 0x7fffffff;
    p.maxGridSize[1] = p.maxGridSize[2] = 65535;
    p.major = device.major;
    p.minor = device.minor;
    p.multiProcessorCount = device.multiprocessors;
    p.concurrentKernels = p.unifiedAddressing = p.cooperativeLaunch = 1;
    p.pciBusID = ordinal + 1;
    p.memoryBusWidth = 5120;
    p.l2CacheSize = 50 << 20;
    p.maxThreadsPerMultiProcessor = 2048;
    p.maxBlocksPerMultiProcessor = 32;
    p.sharedMemPerMultiprocessor = device.sharedBytesOnRequest + 1024;
    p.sharedMemPerBlockOptin = device.sharedBytesOnRequest;
    p.reservedSharedMemPerBlock = 1024;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int ordinal) {
  return call(__func__, [&] {
    cudaDeviceProp p;
    if (const cudaError_t status = cudaGetDeviceProperties(&p, ordinal); status != cudaSuccess) return status;
    const std::map<cudaDeviceAttr, size_t> values = {
        {cudaDevAttrMaxThreadsPerBlock, 1024},
        {cudaDevAttrMaxBlockDimX, 1024},
        {cudaDevAttrMaxBlockDimY, 1024},
        {cudaDevAttrMaxBlockDimZ, 64},
        {cudaDevAttrMaxGridDimX, 0x7fffffff},
        {cudaDevAttrMaxGridDimY, 65535},
        {cudaDevAttrMaxGridDimZ, 65535},
        {cudaDevAttrMaxSharedMemoryPerBlock, p.sharedMemPerBlock},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrMaxRegistersPerBlock, 65536},
        {cudaDevAttrClockRate, 1'000'000},
        {cudaDevAttrCanMapHostMemory, 1},
        {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
        {cudaDevAttrIntegrated, 0},
        {cudaDevAttrConcurrentKernels, 1},
        {cudaDevAttrMemoryClockRate, 1'000'000},
        {cudaDevAttrGlobalMemoryBusWidth, p.memoryBusWidth},
        {cudaDevAttrL2CacheSize, p.l2CacheSize},
        {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
        {cudaDevAttrUnifiedAddressing, 1},
        {cudaDevAttrComputeCapabilityMajor, p.major},
        {cudaDevAttrComputeCapabilityMinor, p.minor},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, p.sharedMemPerMultiprocessor},
        {cudaDevAttrMaxRegistersPerMultiprocessor, 65536},
        {cudaDevAttrCooperativeLaunch, 1},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, p.sharedMemPerBlockOptin},
        {cudaDevAttrMaxBlocksPerMultiprocessor, 32},
        {cudaDevAttrReservedSharedMemoryPerBlock, 1024},
        {cudaDevAttrMemoryPoolsSupported, 0},
    };
    const auto found = values.find(attribute);
    if (found == values.end()) return cudaErrorInvalidValue;
    *value = static_cast<int>(found->second);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return call(__func__, [&] {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int length, int ordinal) {
  return call(__func__, [&] {
    if (!exists(ordinal)) return cudaErrorInvalidDevice;
    snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0", static_cast<unsigned>(ordinal + 1) & 0xff);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceReset() {
  const Lock lock;
  const int ordinal = emulator::selectedDevice;
  emulator::forgetStreams(ordinal);
  emulator::freeMemoryOf(ordinal);
  emulator::forgetPeersOf(ordinal);
  if (device.count <= 1) emulator::forgetKernels();
  emulator::sticky[ordinal] = cudaSuccess;
  emulator::lastError = cudaSuccess;
  return cudaSuccess;
}
