// Prints the order in which threads of three blocks came to an atomic.
#include <vector>

#include "cases.hpp"

MSMA_KERNEL arrivals(int* count, int* out) { out[atomic_add(count, 1)] = block_x() * threads() + thread(); }

bool print() {
    std::vector<int> out(3 * 64);
    int count = 0;
    launch("arrivals", arrivals, Grid{3, 1, 64, 0}, Stream{}, &count, out.data());
    for (const int who : out) std::printf("%d ", who);
    return count == 3 * 64;
}

bool print_of_seed_7() {
    msma::emulator::set_seed(7);
    return print();
}

int main(int count, char** arguments) {
    return run_case(count, arguments, {{"environment", print}, {"seed_7", print_of_seed_7}});
}
