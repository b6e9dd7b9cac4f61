#include "base/thread_pool.h"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"
#include "random.h"

namespace shardspeed::test {

// Runs one region and checks that every item came once and to a worker that exists.
static void checkRegion(ThreadPool& pool, int64_t items) {
  std::vector<std::atomic<int>> visits(static_cast<size_t>(items));
  std::atomic<int> strangers{0};
  pool.forEach(items, [&](int64_t item, int worker) {
    visits[static_cast<size_t>(item)].fetch_add(1, std::memory_order_relaxed);
    if (worker < 0 || worker >= pool.threads()) ++strangers;
  });
  int wrong = 0;
  for (const auto& visit : visits) wrong += visit.load() != 1;
  CHECK_EQ(wrong, 0);
  CHECK_EQ(strangers.load(), 0);
}

TEST(thread_pool, every_item_once_for_any_number_of_items_and_threads) {
  for (const int threads : {1, 2, 3, 5, 9}) {
    ThreadPool pool(threads);
    CHECK_EQ(pool.threads(), threads);
    for (const int64_t items : {0, 1, 2, 3, 4, 5, 8, 9, 10, 63, 1000}) {
      const Note note("threads", threads, "items", items);
      checkRegion(pool, items);
    }
  }
}

TEST(thread_pool, crowded_pools_do_the_same) {
  constexpr int kTooMany = 1 << 20;  // ranks for any machine
  for (const int threads : {2, 5}) {
    ThreadPool pool(threads, kTooMany);
    CHECK(pool.crowded());
    for (int round = 0; round < 50; ++round)
      for (const int64_t items : {1, 2, 9, 100}) checkRegion(pool, items);
  }
  CHECK(!ThreadPool(1).crowded());
}

static double threadSeconds() {
  timespec used;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

// Where there are fewer processors than threads, the worker that is waited for may need the waiting one's.
TEST(thread_pool, whoever_waits_in_a_crowded_pool_gives_way) {
  ThreadPool pool(2, 1 << 20);
  std::atomic<bool> begun{false};
  const double before = threadSeconds();
  pool.forEach(2, [&](int64_t, int worker) {
    if (worker == 0) {
      begun.wait(false);
      return;
    }
    begun = true;
    begun.notify_all();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  });
  CHECK(threadSeconds() - before < 0.1);
}

// Plain (not atomic) memory: what one region writes, the caller and the next region see.
TEST(thread_pool, regions_are_ordered) {
  ThreadPool pool(3);
  std::vector<int64_t> values(64);
  const int64_t rounds = kReduced ? 500 : 20000;
  for (int64_t round = 0; round < rounds; ++round) {
    pool.forEach(64, [&](int64_t item, int) { values[static_cast<size_t>(item)] += 1; });
    // The neighbour's value, written by any thread in the region before.
    if (round % 16 == 0) {
      std::vector<int64_t> copied(64);
      pool.forEach(64, [&](int64_t item, int) {
        copied[static_cast<size_t>(item)] = values[static_cast<size_t>((item + 1) % 64)];
      });
      for (const int64_t value : copied) CHECK_EQ(value, round + 1);
    }
  }
  for (const int64_t value : values) CHECK_EQ(value, rounds);
}

TEST(thread_pool, a_worker_number_is_used_by_one_thread_at_a_time) {
  ThreadPool pool(4);
  std::vector<int64_t> perWorker(4);  // not atomic: two threads in one slot would lose counts (and TSan would tell)
  int64_t expected = 0;
  for (int round = 0; round < (kReduced ? 100 : 2000); ++round) {
    const int64_t items = round % 37;
    expected += items;
    pool.forEach(items, [&](int64_t, int worker) { ++perWorker[static_cast<size_t>(worker)]; });
  }
  int64_t total = 0;
  for (const int64_t count : perWorker) total += count;
  CHECK_EQ(total, expected);
}

TEST(thread_pool, wakes_sleeping_workers) {
  ThreadPool pool(4);
  for (int round = 0; round < 12; ++round) {
    // Long enough for workers to stop spinning and sleep, and around the time when they do.
    std::this_thread::sleep_for(std::chrono::microseconds(round % 3 ? 300 * round : 20000));
    checkRegion(pool, 8);
    checkRegion(pool, 3);
  }
}

// All workers must take part where each waits for all others; it also shows that sleepers do wake up.
TEST(thread_pool, all_workers_take_part) {
  ThreadPool pool(4);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::atomic<int> arrived{0};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::atomic<bool> late{false};
    pool.forEach(4, [&](int64_t, int) {
      ++arrived;
      while (arrived < 4 && !late) {
        if (std::chrono::steady_clock::now() > deadline) late = true;
        std::this_thread::yield();
      }
    });
    CHECK(!late);
  }
}

// The caller has done all its items while a worker is still at one: it waits for it.
TEST(thread_pool, waits_for_everyone_inside) {
  ThreadPool pool(2);
  for (int round = 0; round < 10; ++round) {
    std::atomic<bool> entered{false}, waited{false};
    std::atomic<int> finished{0};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    pool.forEach(2, [&](int64_t, int worker) {
      if (worker == 0) {
        while (!entered && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
        waited = true;
      } else {
        entered = true;
        while (!waited && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      ++finished;
    });
    CHECK_EQ(finished.load(), 2);
    CHECK(entered.load());
    if (finished != 2)
      std::this_thread::sleep_for(std::chrono::milliseconds(200));  // what is captured lives until then
  }
}

TEST(thread_pool, ends_whatever_its_workers_do) {
  Random random(10);
  for (int round = 0; round < (kReduced ? 60 : 600); ++round) {
    auto pool = std::make_unique<ThreadPool>(static_cast<int>(random.between(1, 6)));
    for (int64_t regions = random.between(0, 3); regions > 0; --regions) checkRegion(*pool, random.between(0, 9));
    // Workers not yet started, spinning, or asleep.
    if (round % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    pool.reset();
  }
}

// The system refuses threads: an error, and those that were started end.
TEST(thread_pool, more_threads_than_there_is_memory_for) {
  if (kReduced) SKIP("sanitizers reserve address space of their own, which the limit would count");
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0;
  if (!(statm >> pages)) SKIP("this system has no /proc/self/statm");
  // Room for some stacks, of 8 MB or so each, but not for a thousand.
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE)) + (256 << 20);
  REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
  CHECK_THROWS("ERR_OUT_OF_MEMORY", "of 1000 threads", ThreadPool(1000));
  CHECK_EQ(setrlimit(RLIMIT_AS, &before), 0);
  ThreadPool pool(3);
  checkRegion(pool, 100);
}

TEST(thread_pool, stress) {
  Random random(11);
  ThreadPool two(2), five(5);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1000);
  int64_t regions = 0;
  while (std::chrono::steady_clock::now() < end) {
    checkRegion(random.chance(0.5) ? two : five, random.between(0, 20));
    if (++regions % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random.below(500)));
  }
  CHECK(regions > 0);
}

}  // namespace shardspeed::test
