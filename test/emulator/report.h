#pragma once

#include <string>

namespace emulator {

// What lastReport() says.
void setReport(const std::string& text);

}  // namespace emulator
