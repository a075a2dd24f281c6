"""The trainer: what runs inside a kernel, and on a laptop.

Importing this package pins the arithmetic (threads, instruction set) before torch is imported; see `arithmetic`.
"""

from kernels.rl_training import arithmetic

arithmetic.pin()
