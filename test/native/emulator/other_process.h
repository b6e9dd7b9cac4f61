#pragma once

#include <functional>
#include <source_location>

namespace shardspeed::test {

// How often body finds wrong what a mistake put into kernels on purpose makes wrong. Under ThreadSanitizer, which may
// say so as well, a process of its own runs body, and its report, unseen, counts. That process runs the same case from
// its beginning as far as this call: a fork of this one would do, if ThreadSanitizer did not stop looking in forks of
// processes that have threads or fibers. So a case calls this in its own function and in one place a line.
int inOtherProcess(const std::function<int()>& body, std::source_location where = std::source_location::current());

}  // namespace shardspeed::test
