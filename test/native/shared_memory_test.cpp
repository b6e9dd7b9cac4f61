#include "comm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <string>

#include "check.h"

namespace shardspeed::test {

TEST(shared_memory, is_seen_by_all_and_stays_while_it_is_mapped) {
  const size_t bytes = 3 << 20;
  Descriptor memory = createSharedMemory(bytes);
  CHECK((fcntl(memory.number(), F_GETFD) & FD_CLOEXEC) != 0);
  const auto here = mapSharedMemory(memory, bytes);
  Descriptor opened = openSharedMemory(placeOf(memory, bytes), bytes);
  const auto there = mapSharedMemory(opened, bytes);
  memory.close();
  opened.close();
  CHECK(here.get() != there.get());
  here.get()[bytes - 1] = 77;
  CHECK_EQ(there.get()[bytes - 1], 77);
}

TEST(shared_memory, nobody_can_make_it_smaller) {
  const Descriptor memory = createSharedMemory(8192);
  CHECK(ftruncate(memory.number(), 4096) != 0);
  CHECK(ftruncate(memory.number(), 16384) != 0);
}

TEST(shared_memory, other_places_are_refused) {
  const size_t bytes = 8192;
  const Descriptor memory = createSharedMemory(bytes), another = createSharedMemory(bytes);
  const SharedMemoryPlace place = placeOf(memory, bytes);
  const auto refused = [&](const char* part, const std::function<void(SharedMemoryPlace&)>& change) {
    SharedMemoryPlace wrong = place;
    change(wrong);
    CHECK_THROWS("ERR_COMM", part, openSharedMemory(wrong, bytes));
  };
  refused("on another host than rank 0", [](auto& wrong) { wrong.bootId[0] ^= 1; });
  refused("on another host than rank 0", [](auto& wrong) { wrong.bootId.clear(); });
  refused("in another pid namespace", [](auto& wrong) { ++wrong.pidNamespace; });
  refused("cannot be opened at /proc/", [](auto& wrong) { wrong.process = 1u << 30; });
  refused("cannot be opened at /proc/", [](auto& wrong) { wrong.descriptor = 1u << 30; });
  refused("another file", [&](auto& wrong) { wrong.descriptor = static_cast<uint64_t>(another.number()); });
  refused("another file", [](auto& wrong) { ++wrong.device; });
  refused("where rank 0 shares 4096", [](auto& wrong) { wrong.bytes = 4096; });
  CHECK(openSharedMemory(place, bytes).open());
}

TEST(shared_memory, more_than_there_is) {
  CHECK_THROWS("ERR_OUT_OF_MEMORY", "bytes are available", createSharedMemory(size_t{1} << 60));
  CHECK_THROWS("ERR_OUT_OF_MEMORY", "bytes of memory shared", createSharedMemory(std::numeric_limits<size_t>::max()));
}

}  // namespace shardspeed::test
