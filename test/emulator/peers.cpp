#include "peers.h"

#include <algorithm>

#include "engine.h"
#include "memory.h"
#include "runtime.h"
#include "runtime_api.h"

namespace emulator {
namespace {

bool possible = true;
uint64_t enabled[kMaxDevices];  // bit p of the dth: device d may use the memory of device p
uint64_t dropped[kMaxDevices];  // likewise: what device d writes to the memory of device p is lost

constexpr uint64_t bit(int device) {
  return uint64_t{1} << device;
}

}  // namespace

uint64_t usersOf(int owner) {
  uint64_t users = bit(owner);
  for (int i = 0; i < kMaxDevices; ++i)
    if ((enabled[i] & bit(owner)) != 0) users |= bit(i);
  return users;
}

bool takesWrites(int from, int to) {
  return to < 0 || (dropped[from] & bit(to)) == 0;
}

void forgetPeersOf(int ordinal) {
  enabled[ordinal] = 0;
  forgetLookups();
}

void forgetPeers() {
  possible = true;
  std::fill(std::begin(enabled), std::end(enabled), 0);
  std::fill(std::begin(dropped), std::end(dropped), 0);
  forgetLookups();
}

void setPeerAccess(bool isPossible) {
  const Lock lock;
  possible = isPossible;
}

void dropWrites(int from, int to) {
  const Lock lock;
  dropped[from] |= bit(to);
}

namespace {

bool canAccess(int ordinal, int peer) {
  return possible && exists(ordinal) && exists(peer) && ordinal != peer;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

cudaError_t cudaDeviceCanAccessPeer(int* can, int ordinal, int peer) {
  return call(__func__, [&] {
    if (!exists(ordinal) || !exists(peer)) return cudaErrorInvalidDevice;
    *can = canAccess(ordinal, peer);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return call(__func__, [&] {
    if (flags != 0) return cudaErrorInvalidValue;
    if (!canAccess(currentDevice(), peer)) return cudaErrorInvalidDevice;
    uint64_t& peers = enabled[currentDevice()];
    if ((peers & bit(peer)) != 0) return cudaErrorPeerAccessAlreadyEnabled;
    peers |= bit(peer);
    forgetLookups();
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  return call(__func__, [&] {
    if (!exists(peer) || peer == currentDevice()) return cudaErrorInvalidDevice;
    uint64_t& peers = enabled[currentDevice()];
    if ((peers & bit(peer)) == 0) return cudaErrorPeerAccessNotEnabled;
    peers &= ~bit(peer);
    forgetLookups();
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr attribute, int ordinal, int peer) {
  return call(__func__, [&] {
    if (!exists(ordinal) || !exists(peer) || ordinal == peer) return cudaErrorInvalidDevice;
    switch (attribute) {
      case cudaDevP2PAttrPerformanceRank:
      case cudaDevP2PAttrCudaArrayAccessSupported:
        *value = 0;
        return cudaSuccess;
      case cudaDevP2PAttrAccessSupported:
      case cudaDevP2PAttrNativeAtomicSupported:
        *value = canAccess(ordinal, peer);
        return cudaSuccess;
    }
    return cudaErrorInvalidValue;
  });
}
