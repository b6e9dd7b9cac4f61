#include "binding/cuda.h"

#include "binding/guard.h"

#ifdef SHARDSPEED_CUDA
#include "cuda/cuda_backend.h"
#include "cuda/devices.h"
#include "cuda/libraries.h"
#include "runtime/device.h"
#endif
#ifdef SHARDSPEED_CUDA_EMULATOR
#include <cuda_runtime.h>

#include <cstdlib>

#include "emulator.h"
#endif

namespace shardspeed {

#ifdef SHARDSPEED_CUDA_EMULATOR
// Settings for tests of the package: number of devices, their memory, and a launch that fails.
static void readEmulatorSettings() {
  if (const char* count = std::getenv("SHARDSPEED_EMULATOR_DEVICES")) emulator::setDeviceCount(std::atoi(count));
  if (const char* bytes = std::getenv("SHARDSPEED_EMULATOR_MEMORY"))
    emulator::setDeviceMemory(static_cast<size_t>(std::atoll(bytes)));
  if (const char* nth = std::getenv("SHARDSPEED_EMULATOR_FAULT"))
    emulator::failCall("cudaLaunchKernelEx", std::atoi(nth), cudaErrorIllegalAddress);
}
#endif

#ifdef SHARDSPEED_CUDA

bool builtWithCuda() {
  return true;
}

void prepareCuda() {
#ifdef SHARDSPEED_CUDA_EMULATOR
  readEmulatorSettings();
#endif
  addDeviceKind("cuda", cuda::cudaDeviceKind());
}

static Napi::Object toObject(Napi::Env env, const cuda::DeviceReport& device) {
  auto object = Napi::Object::New(env);
  object.Set("index", device.index);
  object.Set("name", device.name);
  object.Set("computeCapability", device.computeCapability);
  object.Set("totalBytes", static_cast<double>(device.totalBytes));
  object.Set("freeBytes", static_cast<double>(device.freeBytes));
  object.Set("usable", device.problem.empty());
  if (!device.problem.empty()) object.Set("problem", device.problem);
  return object;
}

static Napi::Object toObject(Napi::Env env, const cuda::LibraryReport& library) {
  auto object = Napi::Object::New(env);
  object.Set("name", library.name);
  const auto set = [&](const char* key, const std::string& text) {
    if (!text.empty()) object.Set(key, text);
  };
  set("path", library.path);
  set("version", library.version);
  set("problem", library.problem);
  return object;
}

static void fillReport(Napi::Env env, Napi::Object& object, const Napi::Value& open) {
  const cuda::Report report = cuda::report(open.IsNumber()    ? open.As<Napi::Number>().Int32Value()
                                           : open.IsBoolean() ? cuda::kAllDevices
                                                              : cuda::kNoDevice);
  object.Set("built", true);
  if (!report.problem.empty()) object.Set("problem", report.problem);
  if (!report.driverVersion.empty()) object.Set("driverVersion", report.driverVersion);
  if (!report.runtimeVersion.empty()) object.Set("runtimeVersion", report.runtimeVersion);
  auto devices = Napi::Array::New(env, report.devices.size());
  for (uint32_t i = 0; i < report.devices.size(); ++i) devices.Set(i, toObject(env, report.devices[i]));
  object.Set("devices", devices);
  // For reports: opening them takes a while.
  if (!open.IsBoolean()) return;
  const std::vector<cuda::LibraryReport> found = cuda::findLibraries();
  auto libraries = Napi::Array::New(env, found.size());
  for (uint32_t i = 0; i < found.size(); ++i) libraries.Set(i, toObject(env, found[i]));
  object.Set("libraries", libraries);
}

#else

bool builtWithCuda() {
  return false;
}

void prepareCuda() {}

static void fillReport(Napi::Env env, Napi::Object& object, const Napi::Value&) {
  object.Set("built", false);
  object.Set("problem", "This build has no CUDA backend.");
  object.Set("devices", Napi::Array::New(env));
}

#endif

Napi::Value cudaReport(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto object = Napi::Object::New(info.Env());
    fillReport(info.Env(), object, info[0]);
#ifdef SHARDSPEED_CUDA_EMULATOR
    object.Set("emulated", true);
    // The place where a kernel failed, for the reader of a failed test.
    if (!emulator::lastReport().empty()) object.Set("fault", emulator::lastReport());
#else
    object.Set("emulated", false);
#endif
    return object;
  });
}

}  // namespace shardspeed
