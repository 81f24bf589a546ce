"""The constants of `RateEstimator`, and what other values cost.

Figures beside constants are from the simulated accounts of tests/ratelimit/test_adaptive.py with 32 seeds. "Makespan"
is relative to the least possible, "refused" is per accepted job, "moving" is a limit that falls to a third and rises
again. "a -> b" compares the present value (a) with the one named (b).
"""

from __future__ import annotations

# Each interval of the ramp relative to the one before. The first refused pace is at most 1/0.7 of the limit. A smaller
# ratio finds the limit in fewer steps but overshoots it further. Half the step (0.85): makespan 1.03 -> 1.29 for 4/s
# with 10 saved up, without Retry-After. Double (0.49): refused .074 -> .125 for sliding windows without Retry-After.
RAMP_RATIO = 0.7

# The share of the bracket (as a ratio) that the search moves up with each step. A small step loses less than a refusal
# costs. Half: makespan 1.13 -> 1.21 at a configured rate 5 % too high. Double: worst 1.16 -> 3.17 at twice the rate.
SEARCH_SHARE = 1 / 3

# A bracket this narrow is not searched. Half (1.04): 25 -> 36 refusals an hour for a moving rate. Double (1.16): 19 an
# hour, and up to 16 % of the rate unused.
NARROW = 1.08

# The relative step of growth. Half: makespan 1.90 -> 2.02 after a wrong learned rate. Double: 25 -> 33 refusals an hour
# for a moving rate.
GROWTH_STEP = 0.05

# A step of growth above this ratio needs twice as many accepted requests for an account that saves up a burst, because
# the burst may have paid for them. Without it the learned rate is up to 40 % too high for 4/s with 10 saved up.
FAST_GROWTH = 1.25

# The part of a computed (not tried) rate that is used, because clocks and networks are uneven. Half the margin (0.985):
# 25 -> 31 refusals an hour for a moving rate. Double (0.94): 21 an hour, and another 3 % of the rate unused.
MARGIN = 0.97

# A pace that has held but is refused at less than 1/1.1 of itself was paid for by a burst. Half (1.05): an uneven
# network passes for a burst; worst makespan 1.93 -> 3.08 for 4/s with answers after 1 s. Double (1.2): 2.35.
BURST_RATIO = 1.1

# Rates closer than this count as equal. It has to exceed rounding errors: without it (1.0) a moving rate is refused 138
# times an hour instead of 25.
EQUAL = 1.01

# A request sent up to this many intervals after the last one was on time: it shows that the pace holds. It has to
# exceed the jitter of timers and stay far below 2, where an interval was skipped.
ON_TIME = 1.1

# Requests accepted at a pace before it holds. Half: 25 -> 48 refusals an hour for a moving rate. Double: makespan 1.13
# -> 1.17 at a configured rate 5 % too high.
MIN_HELD = 2

# Accepted requests that make a result reliable: a pace held this often was refused by bad luck, and a cycle of this
# length can be measured. Half (2 or 3): 29 -> 77 to 91 refusals an hour for a moving rate with 10 saved up. Double
# (10): makespan 1.04 -> 1.15 for a fixed window of 5, which never gets that far.
RELIABLE_COUNT = 5

# The least number of requests at a steady pace before growth. Half: refused .073 -> .086 at 5 a minute. Double: .051,
# and makespan 1.40 -> 1.48 after a learned rate four times too low.
STEADY_COUNT = 20

# A request that left at most this part of a round trip before another one may arrive after it, and be refused for it.
# Without it, one seed of 16 loses the rate of 4/s with answers after .3 s: worst makespan 1.25 -> 1.64.
OVERTAKING = 0.2

# After a rate had held for `STEADY_COUNT` requests, a pause of so many of their intervals was an outage, and no lower
# rate. Without it, a minute in which 4/s refuses everything: 600 jobs take 1,700 to 2,500 s instead of 250. Chosen.
OUTAGE = 10

# The largest burst that is counted. As many requests must hold at a pace before it counts for a bursty account. Half
# (50): up to 5 % more or less of a moving window of 60 is used. A fifth (20): 39 -> 828 refusals an hour there.
MAX_BURST = 100

# Requests per second that the ramp may reach however long an answer takes. Half (2.5): makespan 2.30 -> 2.56 without
# limits, answers after 1 s. Double (10): 1.158 -> 1.151 for 20/s with 10 saved up, but with jitter one seed of ten
# takes 1.35 to 1.56.
RAMP_RATE = 5

# Seconds by which requests may leave late and the next ones earlier, which keeps the pace: timers are late. Only if a
# token bucket was found, for half of its burst: others refuse requests that follow each other too soon. Chosen.
LATENESS = 0.1

MAX_PACE = 1e6  # submits per second: a finite number for a pace that is not limited

# The end of a pause is known only roughly if the probe left later than it by more than this part of the cycle, 1/10.
# Then a much higher pace is tried soon. 1/20: 19 -> 337 refusals an hour for a moving window. 1/5: makespan 1.90 ->
# 2.32 after a learned rate ten times too high with a burst.
ROUGH_PART = 10
