#pragma once

#include <cstdint>

// Which devices may use whose memory.

namespace emulator {

// Bit d is set where kernels of device d may use memory of device `owner`.
uint64_t usersOf(int owner);
// What kernels of this device store in that one's memory comes there.
bool takesWrites(int from, int to);
void forgetPeersOf(int device);
void forgetPeers();

}  // namespace emulator
