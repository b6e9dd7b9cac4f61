#pragma once

#include <cstdint>

// Which devices may use whose memory.

namespace emulator {

// Bit d is set where kernels of device d may use memory of device `owner`.
uint64_t usersOf(int owner);
void forgetPeersOf(int device);
void forgetPeers();

}  // namespace emulator
