#pragma once

#include <cstdlib>

namespace shardspeed::test {

// A variable of the environment, set while this lives.
class Switch {
 public:
  Switch(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Switch() { unsetenv(name_); }
  Switch(const Switch&) = delete;
  Switch& operator=(const Switch&) = delete;

 private:
  const char* name_;
};

}  // namespace shardspeed::test
