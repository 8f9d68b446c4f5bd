"""The benchmark suite: `make bench` (BENCH=all for the slow cases), `make bench-compare`.

A bench_<op>.py declares cases: inputs, contenders (ours first, then peers), and a judge. For each case

  gate      our answer is compared with an independent float64 oracle; a wrong answer fails and prints no number
  peers     their wrong answers are counted against the same oracle; a peer that is not installed is declared missing
  race      all contenders run in turn in one process, round by round, so that a drift of the machine hits all alike
  numbers   the median over rounds of t_peer / t_ours, with an interval; the share of a GEMM timed in the same rounds;
            peak memory in a fresh process (the first case of each op)

MSMA_BENCH_QUICK=1 shrinks every case to seconds: it tests the suite, its numbers mean nothing.
"""
