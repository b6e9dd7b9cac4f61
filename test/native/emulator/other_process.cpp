#include "emulator/other_process.h"

#ifdef __SANITIZE_THREAD__
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "check.h"

namespace {
// What the other process ends with; anything else means that it never got there.
constexpr int kFound = 41, kNothing = 42;
bool exitsOnReport = false;
}  // namespace
extern "C" [[gnu::visibility("default")]] void __tsan_on_report(void*) {
  if (exitsOnReport) _exit(kFound);
}
#endif

namespace shardspeed::test {

#ifdef __SANITIZE_THREAD__
namespace {

constexpr char kPlace[] = "SHARDSPEED_MISTAKE_AT";

// What to give as --filter for the case whose function this is: test_TOPIC_NAME, and either may hold underscores.
std::string filterFor(const std::string& function) {
  const size_t begin = function.find("test_") + 5;
  const std::string name = function.substr(begin, function.find('(', begin) - begin);
  std::string filter;
  for (size_t i = name.find('_'); i != std::string::npos; i = name.find('_', i + 1))
    filter += (filter.empty() ? "" : ",") + name.substr(0, i) + "/" + name.substr(i + 1);
  return filter;
}

}  // namespace

int inOtherProcess(const std::function<int()>& body, std::source_location where) {
  const std::string place = std::string(where.file_name()) + ":" + std::to_string(where.line());
  if (const char* wanted = getenv(kPlace)) {
    if (place != wanted) return 1;
    exitsOnReport = true;
    _exit(body() > 0 ? kFound : kNothing);
  }
  std::string filter = filterFor(where.function_name());
  char program[] = "/proc/self/exe", option[] = "--filter";
  char* const arguments[] = {program, option, filter.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int output : {STDOUT_FILENO, STDERR_FILENO})
    posix_spawn_file_actions_addopen(&actions, output, "/dev/null", O_WRONLY, 0);
  setenv(kPlace, place.c_str(), 1);
  pid_t child = 0;
  const int error = posix_spawn(&child, program, &actions, nullptr, arguments, environ);
  unsetenv(kPlace);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  const bool ended = error == 0 && waitpid(child, &status, 0) == child && WIFEXITED(status);
  if (!ended || (WEXITSTATUS(status) != kFound && WEXITSTATUS(status) != kNothing))
    FAIL("the process for the mistake at " + place + " ended with " + std::to_string(status));
  return ended && WEXITSTATUS(status) == kFound ? 1 : 0;
}
#else
int inOtherProcess(const std::function<int()>& body, std::source_location) {
  return body();
}
#endif

}  // namespace shardspeed::test
