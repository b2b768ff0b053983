# For other Cython modules only; see the .pxd.
