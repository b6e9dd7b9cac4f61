#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/group.h"
#include "comm/socket.h"

namespace shardspeed {

// Memory that processes of one host share without a name in the file system: rank 0 makes it, the others open rank 0's
// descriptor through /proc. The system frees it when no process maps it any more, however the processes ended.

// Place of memory that another process has made.
struct SharedMemoryPlace {
  std::string bootId;         // of the host, until it restarts
  uint64_t pidNamespace = 0;  // the one that `process` is a number of
  uint64_t process = 0;
  uint64_t descriptor = 0;  // of that process
  uint64_t device = 0, inode = 0;
  uint64_t bytes = 0;
};

// Group::shareMemory() for a group of processes, by its exchange(). If one rank cannot map the memory, all ranks throw:
// ERR_OUT_OF_MEMORY if there is not enough, else ERR_COMM.
std::shared_ptr<uint8_t> shareMemoryByExchange(Group& group, size_t bytes);

// Its steps, for tests. All throw Error.
Descriptor createSharedMemory(size_t bytes);
SharedMemoryPlace placeOf(const Descriptor& memory, size_t bytes);
Descriptor openSharedMemory(const SharedMemoryPlace& place, size_t bytes);
std::shared_ptr<uint8_t> mapSharedMemory(const Descriptor& memory, size_t bytes);

}  // namespace shardspeed
