#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace shardspeed::cuda {

// The CUDA devices of this machine, and what keeps them from being used. lib/native/binding.ts, CudaReport.
struct DeviceReport {
  int index = 0;
  std::string name;
  std::string computeCapability;  // "9.0"
  int64_t totalBytes = 0;
  int64_t freeBytes = 0;  // where it was opened
  std::string problem;    // empty: usable
};

struct Report {
  std::string problem;         // why no device can be used; empty: one can
  std::string driverVersion;   // the newest CUDA that the driver knows, "13.0"; empty: no driver
  std::string runtimeVersion;  // that this build was made with
  std::vector<DeviceReport> devices;
};

constexpr int kNoDevice = -1;
constexpr int kAllDevices = -2;

// Never throws. Opens the device of this index, to ask for its free memory; that takes some of it for as long as the
// process lives, so no other one is opened.
Report report(int open = kNoDevice);

// Throws ERR_CUDA saying what is missing.
void requireUsableDevice(int index);

// Held by everything that lives on a device, from before its first allocation until after its last. An error such as an
// illegal address makes the whole device useless to this process until it is reset, which takes all memory with it: so
// that is done when the device is asked for again and nobody holds it. It helps where CUDA lets it; else the process
// has to be started again.
class DeviceLease {
 public:
  // Chooses the device for this thread. Throws ERR_CUDA.
  explicit DeviceLease(int index);
  ~DeviceLease();
  DeviceLease(const DeviceLease&) = delete;
  DeviceLease& operator=(const DeviceLease&) = delete;
  int index() const { return index_; }

 private:
  int index_;
};

}  // namespace shardspeed::cuda
