"""A plugin of pytest (`-p scattered_functions`): functions made after it lie in memory in a shuffled order.

Without it they lie nearly in the order in which they are made, in every process alike, and an order by address looks
like one that can be relied on.
"""

import random

functions = [lambda: None for _ in range(100_000)]
random.Random(1).shuffle(functions)
KEPT = functions[:10_000]  # in nearly every page of the allocator, which would otherwise begin it anew, in order
del functions
