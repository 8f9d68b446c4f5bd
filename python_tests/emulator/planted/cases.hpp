// The main function of a planted program: runs the case that its argument names. It ends with 0, with 2 and the message
// of what was thrown, or with 3 where a result is wrong. A sanitizer's report ends it otherwise.
#pragma once

#include <cstdio>
#include <cstring>
#include <exception>
#include <initializer_list>

#include "device.cuh"
#include "launch.cuh"

using namespace msma::device;

struct Case {
    const char* name;
    bool (*right)();  // whether its results are
};

inline int run_case(int count, char** arguments, std::initializer_list<Case> cases) {
    try {
        for (const Case& each : cases) {
            if (count != 2 || std::strcmp(each.name, arguments[1]) != 0) continue;
            if (each.right()) return 0;
            std::printf("wrong result\n");
            return 3;
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
    std::fprintf(stderr, "no such case\n");
    return 4;
}
