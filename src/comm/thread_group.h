#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "comm/group.h"

namespace shardspeed {

// A group whose ranks are threads of this process: one Group for each, in the order of the ranks. onOver, if given,
// is called once, by the thread that ends the group.
std::vector<std::unique_ptr<Group>> makeThreadGroup(int size, std::function<void()> onOver = {});

}  // namespace shardspeed
