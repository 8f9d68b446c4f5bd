// The main function of a planted program: runs the case that its argument names. It ends with 0, with 2 and the message
// of what was thrown, or with 3 where a result is wrong. A sanitizer's report ends it otherwise.
#pragma once

#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <string>

#include "device.cuh"
#include "launch.cuh"

using namespace msma::device;

// A case: whether its results are right.
using Cases = std::map<std::string, std::function<bool()>>;

inline int run_case(int count, char** arguments, const Cases& cases) {
    const auto found = cases.find(count == 2 ? arguments[1] : "");
    if (found == cases.end()) {
        std::fprintf(stderr, "no such case\n");
        return 4;
    }
    try {
        if (found->second()) return 0;
        std::printf("wrong result\n");
        return 3;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
