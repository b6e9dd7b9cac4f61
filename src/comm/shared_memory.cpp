#include "comm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "base/error.h"
#include "base/machine.h"
#include "comm/frame.h"
#include "comm/socket.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

namespace shardspeed {

namespace {

constexpr size_t kPieceBytes = size_t{16} << 20;  // requested at once, so that a signal interrupts no more than that
constexpr const char* kNeeds =
    ". Ranks that share memory must run on the same host, as the same user and in the same pid namespace (container)";

Error outOfMemory(size_t bytes, const std::string& reason) {
  return Error("ERR_OUT_OF_MEMORY",
               std::to_string(bytes) + " bytes of memory shared between processes were asked for: " + reason);
}

std::string readBootId() {
  Descriptor file(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char text[64];
  ssize_t got = -1;
  if (file.open()) do
      got = read(file.number(), text, sizeof text);
    while (got < 0 && errno == EINTR);
  if (got <= 0)
    throw Error("ERR_COMM", "/proc/sys/kernel/random/boot_id cannot be read: " + systemText(errno) + kNeeds);
  return std::string(text, static_cast<size_t>(got)).substr(0, 36);
}

uint64_t pidNamespace() {
  struct stat found {};
  return stat("/proc/self/ns/pid", &found) == 0 ? found.st_ino : 0;
}

// Allocates every page now. A page that is missing later, when a rank writes to it, would kill that rank.
int reserve(int memory, size_t bytes) {
  for (size_t start = 0; start < bytes;) {
    const size_t piece = std::min(bytes - start, kPieceBytes);
    if (fallocate(memory, 0, static_cast<off_t>(start), static_cast<off_t>(piece)) == 0)
      start += piece;
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

using Bytes = Group::Bytes;

// A rank's part of an exchange: empty if it has succeeded, else its failure.
Bytes encodeFailure(const Error& error) {
  const std::string text = oneLine(error.code() + " " + error.what());
  return Bytes(text.begin(), text.end());
}

Bytes encodePlace(const SharedMemoryPlace& place) {
  Bytes bytes;
  for (const uint64_t number :
       {place.pidNamespace, place.process, place.descriptor, place.device, place.inode, place.bytes})
    putNumber(bytes, number, 8);
  bytes.insert(bytes.end(), place.bootId.begin(), place.bootId.end());
  return bytes;
}

SharedMemoryPlace decodePlace(const Bytes& bytes) {
  if (bytes.size() < 48) throw Error("ERR_COMM", "rank 0 sent no place of shared memory: it is of another version");
  const auto number = [&](size_t index) { return getNumber(bytes.data() + 8 * index, 8); };
  return {
      std::string(bytes.begin() + 48, bytes.end()), number(0), number(1), number(2), number(3), number(4), number(5)};
}

// Throws the failure of the first rank that has one.
void checkAll(const std::vector<Bytes>& failures) {
  for (size_t rank = 0; rank < failures.size(); ++rank) {
    const std::string text = oneLine(std::string(failures[rank].begin(), failures[rank].end()));
    if (text.empty()) continue;
    const size_t space = text.find(' ');
    const bool memory = text.substr(0, space) == "ERR_OUT_OF_MEMORY";
    throw Error(memory ? "ERR_OUT_OF_MEMORY" : "ERR_COMM",
                "rank " + std::to_string(rank) + ": " + (space == std::string::npos ? text : text.substr(space + 1)));
  }
}

}  // namespace

Descriptor createSharedMemory(size_t bytes) {
  if (bytes > static_cast<size_t>(std::numeric_limits<off_t>::max())) throw outOfMemory(bytes, systemText(EFBIG));
  // Checked first: if pages run out half-way, the system may kill a process instead of refusing them.
  const uint64_t available = availableMemoryBytes();
  if (bytes > available) throw outOfMemory(bytes, std::to_string(available) + " bytes are available");
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  Descriptor memory(memfd_create("shardspeed", flags | MFD_NOEXEC_SEAL));
  // Linux before 6.3 does not know MFD_NOEXEC_SEAL; newer systems may require it.
  if (!memory.open() && errno == EINVAL) memory = Descriptor(memfd_create("shardspeed", flags));
  if (!memory.open())
    throw Error("ERR_COMM", "the system makes no memory to share (memfd_create): " + systemText(errno));
  if (ftruncate(memory.number(), static_cast<off_t>(bytes)) != 0) throw outOfMemory(bytes, systemText(errno));
  const int error = reserve(memory.number(), bytes);
  if (error != 0) throw outOfMemory(bytes, systemText(error));
  // Seals the size: if the memory became smaller, the other processes would get a SIGBUS.
  if (fcntl(memory.number(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    throw Error("ERR_COMM", "memory to share cannot be sealed: " + systemText(errno));
  return memory;
}

SharedMemoryPlace placeOf(const Descriptor& memory, size_t bytes) {
  struct stat found {};
  if (fstat(memory.number(), &found) != 0)
    throw Error("ERR_COMM", "memory to share cannot be examined: " + systemText(errno));
  return {readBootId(),
          pidNamespace(),
          static_cast<uint64_t>(getpid()),
          static_cast<uint64_t>(memory.number()),
          static_cast<uint64_t>(found.st_dev),
          static_cast<uint64_t>(found.st_ino),
          bytes};
}

Descriptor openSharedMemory(const SharedMemoryPlace& place, size_t bytes) {
  if (place.bytes != bytes)
    throw Error("ERR_COMM", "it shares " + std::to_string(bytes) + " bytes where rank 0 shares " +
                                std::to_string(place.bytes) + ": the ranks disagree on what they compute");
  if (place.bootId != readBootId()) throw Error("ERR_COMM", std::string("it is on another host than rank 0") + kNeeds);
  if (place.pidNamespace != pidNamespace())
    throw Error("ERR_COMM", std::string("it is in another pid namespace than rank 0") + kNeeds);
  const std::string path = "/proc/" + std::to_string(place.process) + "/fd/" + std::to_string(place.descriptor);
  Descriptor memory(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!memory.open())
    throw Error("ERR_COMM", "the memory of rank 0 cannot be opened at " + path + ": " + systemText(errno) + kNeeds);
  struct stat found {};
  if (fstat(memory.number(), &found) != 0 || found.st_dev != place.device || found.st_ino != place.inode ||
      static_cast<uint64_t>(found.st_size) < bytes)
    throw Error("ERR_COMM", "another file than the memory of rank 0 was found at " + path + kNeeds);
  return memory;
}

std::shared_ptr<uint8_t> mapSharedMemory(const Descriptor& memory, size_t bytes) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.number(), 0);
  if (mapped == MAP_FAILED) throw outOfMemory(bytes, systemText(errno));
  return std::shared_ptr<uint8_t>(static_cast<uint8_t*>(mapped), [bytes](uint8_t* address) { munmap(address, bytes); });
}

std::shared_ptr<uint8_t> shareMemoryByExchange(Group& group, size_t bytes) {
  const size_t mapped = std::max<size_t>(bytes, 1);
  Descriptor memory;
  std::shared_ptr<uint8_t> address;
  // The first byte tells success from failure.
  Bytes mine{0}, failure;
  if (group.rank() == 0) try {
      memory = createSharedMemory(mapped);
      mine = encodePlace(placeOf(memory, mapped));
      mine.insert(mine.begin(), 1);
    } catch (const Error& error) {
      failure = encodeFailure(error);
    }
  const Bytes place = group.exchange(mine)[0];
  if (failure.empty() && !place.empty() && place[0] == 1) try {
      if (group.rank() != 0) memory = openSharedMemory(decodePlace(Bytes(place.begin() + 1, place.end())), mapped);
      address = mapSharedMemory(memory, mapped);
    } catch (const Error& error) {
      failure = encodeFailure(error);
    }
  // Rank 0 keeps its descriptor until all others have opened it, or have failed.
  checkAll(group.exchange(failure));
  if (!address) throw Error("ERR_COMM", "rank 0 sent no place of shared memory: it is of another version");
  return address;
}

}  // namespace shardspeed
