#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/group.h"
#include "comm/socket.h"

namespace shardspeed {

// Memory that processes of one host share without giving it a name: rank 0 makes it, the others open rank 0's own
// descriptor of it through /proc. When nobody maps it any more it is gone, however the processes ended.

// Where to find memory that another process has made.
struct SharedMemoryPlace {
  std::string bootId;         // of the host, until it restarts
  uint64_t pidNamespace = 0;  // in which `process` is a number
  uint64_t process = 0;
  uint64_t descriptor = 0;  // of that process
  uint64_t device = 0, inode = 0;
  uint64_t bytes = 0;
};

// For all ranks of a group of processes, through its exchange(): see Group::shareMemory(). Where one rank cannot have
// the memory, all of them throw: ERR_OUT_OF_MEMORY where there is not so much, else ERR_COMM.
std::shared_ptr<uint8_t> shareMemoryByExchange(Group& group, size_t bytes);

// The steps of it, for tests. All throw Error.
Descriptor createSharedMemory(size_t bytes);
SharedMemoryPlace placeOf(const Descriptor& memory, size_t bytes);
Descriptor openSharedMemory(const SharedMemoryPlace& place, size_t bytes);
std::shared_ptr<uint8_t> mapSharedMemory(const Descriptor& memory, size_t bytes);

}  // namespace shardspeed
