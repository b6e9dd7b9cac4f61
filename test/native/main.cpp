#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "check.h"
#include "comm/group.h"

namespace shardspeed::test {

namespace {

constexpr int kMostFailures = 10;  // of a case, before it is cut short

struct Case {
  const char* topic;
  const char* name;
  void (*run)();
  std::string fullName() const { return std::string(topic) + "/" + name; }
};

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

std::atomic<int64_t> checks{0};
std::atomic<int> failuresOfCase{0};
std::mutex printing;
thread_local std::vector<const AnyNote*> notes;
const std::thread::id mainThread = std::this_thread::get_id();

bool matches(const std::string& name, std::string_view filters) {
  if (filters.empty()) return true;
  for (size_t start = 0; start <= filters.size();) {
    const size_t comma = std::min(filters.find(',', start), filters.size());
    const std::string_view part = filters.substr(start, comma - start);
    if (!part.empty() && name.find(part) != std::string::npos) return true;
    start = comma + 1;
  }
  return false;
}

// Counts a failure and prints it, while they are few. How many the case has now.
int record(const char* file, int line, const std::string& text) {
  const int count = ++failuresOfCase;
  const std::lock_guard<std::mutex> lock(printing);
  if (count <= kMostFailures) {
    std::printf("%s:%d: %s\n", file, line, text.c_str());
    for (const AnyNote* note : notes) std::printf("    with %s\n", note->text().c_str());
  }
  std::fflush(stdout);
  return count;
}

enum class Outcome { kPassed, kFailed, kSkipped };

Outcome runCase(const Case& wanted, int64_t& milliseconds) {
  const std::string name = wanted.fullName();
  const auto start = std::chrono::steady_clock::now();
  failuresOfCase = 0;
  std::string skipped;
  bool skip = false;
  try {
    wanted.run();
  } catch (const Skipped& reason) {
    skip = true;
    skipped = reason.reason;
  } catch (const CutShort&) {
  } catch (...) {
    record(__FILE__, __LINE__, "the case threw: " + describeException());
  }
  const auto taken = std::chrono::steady_clock::now() - start;
  milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(taken).count();
  if (failuresOfCase > 0) {
    std::printf("FAILED  %s (%lld ms)\n", name.c_str(), static_cast<long long>(milliseconds));
    return Outcome::kFailed;
  }
  if (skip) {
    std::printf("skipped %s: %s\n", name.c_str(), skipped.c_str());
    return Outcome::kSkipped;
  }
  std::printf("ok      %s (%lld ms)\n", name.c_str(), static_cast<long long>(milliseconds));
  return Outcome::kPassed;
}

}  // namespace

Registration::Registration(const char* topic, const char* name, void (*run)()) {
  cases().push_back({topic, name, run});
}

void countCheck() {
  checks.fetch_add(1, std::memory_order_relaxed);
}

void reportFailure(const char* file, int line, const std::string& text) {
  const int count = record(file, line, text);
  // Only the thread of the cases may leave one: an exception in another would end the program.
  if (count >= kMostFailures && std::this_thread::get_id() == mainThread) throw CutShort{};
}

std::string describeException() {
  try {
    throw;
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  } catch (const GroupEnded&) {
    return "the end of the group";
  } catch (const Skipped& skipped) {
    return "SKIP where only the case itself may: " + skipped.reason;
  } catch (...) {
    return "something that is no exception";
  }
}

void reportUnequal(const char* file, int line, const char* what, const std::string& found,
                   const std::string& expected) {
  reportFailure(file, line, std::string(what) + ": found " + found + ", expected " + expected);
}

void reportFar(const char* file, int line, const char* what, double found, double expected, double tolerance) {
  reportFailure(file, line,
                std::string(what) + ": found " + show(found) + ", expected " + show(expected) + " +- " +
                    show(tolerance) + ", off by " + show(found - expected));
}

void reportBits(const char* file, int line, const char* what, int64_t index, int64_t count, const std::string& found,
                const std::string& expected) {
  reportFailure(file, line,
                std::string(what) + ": bits differ first at " + show(index) + " of " + show(count) + ": found " +
                    found + ", expected " + expected);
}

void checkThrows(const char* file, int line, const char* what, const char* code, const std::string& part,
                 const std::function<void()>& body) {
  countCheck();
  std::string found = "nothing";
  try {
    body();
  } catch (const Error& error) {
    if (error.code() == code && std::string(error.what()).find(part) != std::string::npos) return;
    found = describeException();
  } catch (const CutShort&) {
    throw;
  } catch (...) {
    found = describeException();
  }
  reportFailure(
      file, line,
      std::string(what) + ": found " + found + ", expected " + code + " with \"" + part + "\" in its message");
}

std::string show(int64_t value) {
  return std::to_string(value);
}
std::string show(uint64_t value) {
  return std::to_string(value);
}
std::string show(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}
std::string show(const char* value) {
  return value;
}
std::string show(const std::string& value) {
  return value;
}

AnyNote::AnyNote() {
  notes.push_back(this);
}

AnyNote::~AnyNote() {
  notes.pop_back();
}

namespace {

struct Options {
  bool list = false;
  std::string filter, exclude;
  uint64_t seed = 0;   // 0: the order of the files
  size_t slowest = 0;  // how many of the slowest cases to name
  size_t shard = 1, shards = 1;
};

bool usage(const char* found) {
  std::fprintf(stderr,
               "Found %s, expected: [--list] [--filter PART,PART...] [--exclude PART,PART...] [--seed NUMBER] "
               "[--slowest NUMBER] [--shard I/N]; parts are of topic/name, a seed other than 0 shuffles the cases, a "
               "shard is each Nth case from the Ith on\n",
               found);
  return false;
}

// False where an argument is not understood.
bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool hasValue = i + 1 < argc;
    if (argument == "--list") {
      options.list = true;
    } else if (hasValue && argument == "--filter") {
      options.filter = argv[++i];
    } else if (hasValue && argument == "--exclude") {
      options.exclude = argv[++i];
    } else if (hasValue && argument == "--seed") {
      options.seed = std::strtoull(argv[++i], nullptr, 10);
    } else if (hasValue && argument == "--slowest") {
      options.slowest = std::strtoull(argv[++i], nullptr, 10);
    } else if (hasValue && argument == "--shard") {
      if (std::sscanf(argv[++i], "%zu/%zu", &options.shard, &options.shards) != 2 || options.shard == 0 ||
          options.shard > options.shards)
        return usage(argv[i]);
    } else {
      return usage(argument.c_str());
    }
  }
  return true;
}

std::vector<Case> choose(const Options& options) {
  std::vector<Case> chosen;
  for (const Case& wanted : cases()) {
    const std::string name = wanted.fullName();
    if (matches(name, options.filter) && (options.exclude.empty() || !matches(name, options.exclude)))
      chosen.push_back(wanted);
  }
  if (options.seed != 0) std::shuffle(chosen.begin(), chosen.end(), std::mt19937_64(options.seed));
  return chosen;
}

}  // namespace

int runAll(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) return 2;
  const std::vector<Case> chosen = choose(options);
  if (options.list) {
    for (const Case& wanted : chosen) std::printf("%s\n", wanted.fullName().c_str());
    return 0;
  }
  int counts[3] = {};
  std::vector<std::pair<int64_t, std::string>> times;
  for (size_t i = options.shard - 1; i < chosen.size(); i += options.shards) {
    const Case& wanted = chosen[i];
    int64_t milliseconds = 0;
    ++counts[static_cast<int>(runCase(wanted, milliseconds))];
    times.emplace_back(-milliseconds, wanted.fullName());
    std::fflush(stdout);
  }
  std::sort(times.begin(), times.end());
  for (size_t i = 0; i < std::min(options.slowest, times.size()); ++i)
    std::printf("slow    %s (%lld ms)\n", times[i].second.c_str(), static_cast<long long>(-times[i].first));
  std::printf("%d passed, %d failed, %d skipped, %lld checks%s%s\n", counts[0], counts[1], counts[2],
              static_cast<long long>(checks.load()), kReduced ? " (reduced rounds)" : "",
              options.seed != 0 ? (" (--seed " + std::to_string(options.seed) + ")").c_str() : "");
  // A filter that matches nothing is a mistake, not a success.
  if (chosen.empty()) std::fprintf(stderr, "No case matches\n");
  return counts[1] > 0 || chosen.empty() ? 1 : 0;
}

}  // namespace shardspeed::test

int main(int argc, char** argv) {
  return shardspeed::test::runAll(argc, argv);
}
