#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace shardspeed {

// A failure with one of the stable codes of lib/base/errors.ts. Thrown inside the engine, caught at its borders (the
// engine thread, the binding): no exception crosses into Node.
class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

}  // namespace shardspeed
