"""Inner loops of training on a CPU: matrix products, and operations compiled by numba.

A model must have the same bytes for any number of threads and on every x86-64 CPU with AVX2.
Therefore:

- Every value is computed by one thread, and every sum has an order that depends on the shapes of its
  inputs only.
- numba compiles additions and multiplications as they are written. It neither reorders them
  (`fastmath` is off) nor fuses them.
- Functions of the C library and of MKL choose their code by the CPU. Therefore `exp` is written
  out, and matrix products are computed by numpy's OpenBLAS, for which the stages fix the code path.

A compiled function that Python calls declares the types of its arguments, so it is compiled when its
module is first imported, which `make setup` does. Compiled functions release Python's global lock (`nogil`) and
are called by `base.parallel.in_parts`, which divides the work into ranges.
"""
